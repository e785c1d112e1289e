"""Nobody waits while holding a connection of the pool: in registries of the test process, whoever does it fails.

A task that holds a connection may await the database alone. Helper processes, threads, the object store, mail, a turn,
a client's socket, and a second connection of the pool could each take long, and all other requests would wait too.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from quilt_registry.database import Database, _Acquired
from quilt_registry.mail.outbox import SmtpTransport
from quilt_registry.offload import Offload
from quilt_registry.storage.objects import ObjectStore
from quilt_registry.turns import Allowance

_held: ContextVar[bool] = ContextVar("held", default=False)


def check(action: str) -> None:
    assert not _held.get(), f"{action} is awaited by a task that holds a connection of the pool."


def watch() -> None:
    """Check everything that this process does from now on."""
    _patch(Offload, "run")
    _patch(Database, "local_lock")
    _patch(Allowance, "use")
    _patch(SmtpTransport, "send")
    _patch(asyncio, "to_thread")
    for name, method in inspect.getmembers(ObjectStore):
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            _patch(ObjectStore, name)
    acquire, release = _Acquired.__aenter__, _Acquired.__aexit__

    async def enter(self: _Acquired) -> Any:
        check("a second connection")
        connection = await acquire(self)
        _held.set(True)
        return connection

    async def leave(self: _Acquired, *error: Any) -> None:
        _held.set(False)
        await release(self, *error)

    _Acquired.__aenter__, _Acquired.__aexit__ = enter, leave  # type: ignore[method-assign]


def _patch(owner: Any, name: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def checked(*args: Any, **options: Any) -> Any:
        check(f"{owner.__name__}.{name}")
        return original(*args, **options)

    setattr(owner, name, checked)


def watched(service: ASGIApp) -> ASGIApp:
    """Return a service whose sockets are checked as well."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def checked_receive() -> Any:
            check("the client's request")
            return await receive()

        async def checked_send(message: Any) -> None:
            check("the client's socket")
            await send(message)

        await service(scope, checked_receive, checked_send)

    return run
