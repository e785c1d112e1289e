"""Changes of the database between two statements of a request, in a registry of the test process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import asyncpg

from quilt_registry.database import Connection
from quilt_registry.monitoring import logs
from tests.registry import Registry

MAX_STATEMENTS = 40  # of one request


class Interruption:
    """A change before the statement of a request with a given number. `done` tells whether it was made."""

    def __init__(self, url: str, number: int, change: str, before: Callable[[], object]):
        self.url, self.number, self.change, self.before = url, number, change, before
        self.seen, self.done = 0, False

    async def before_statement(self) -> None:
        if not logs.request_id():  # a background task
            return
        self.seen += 1
        if self.seen == self.number:
            self.before()
            connection = await asyncpg.connect(self.url)
            # The request may hold rows that the change needs: then it comes too late.
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL lock_timeout = '50ms'; {self.change}")
                self.done = True
            await connection.close()


@contextlib.contextmanager
def interrupted(
    registry: Registry, number: int, change: str, before: Callable[[], object] = lambda: None
) -> Iterator[Interruption]:
    """Interrupt the request of the block. `before` is called before the change, even if that comes too late."""
    assert registry.database_url is not None
    interruption = Interruption(registry.database_url, number, change, before)

    def interrupting(method: Callable[..., Any]) -> Callable[..., Any]:
        async def run(self: Connection, *args: Any, **options: Any) -> Any:
            await interruption.before_statement()
            return await method(self, *args, **options)

        return run

    with contextlib.ExitStack() as stack:
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            stack.enter_context(mock.patch.object(Connection, name, interrupting(getattr(Connection, name))))
        yield interruption
