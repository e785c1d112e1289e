"""Calls that wait until a test lets them go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class Gate:
    """Calls of a coroutine function wait here until it opens."""

    def __init__(self) -> None:
        self.opened, self.waiting = threading.Event(), 0

    async def wait(self) -> None:
        self.waiting += 1
        while not self.opened.is_set():  # noqa: ASYNC110  it is opened by another thread
            await asyncio.sleep(0.01)


@contextmanager
def held_up(owner: type, name: str, *functions: Any) -> Iterator[Gate]:
    """Hold up a method, or those of its calls that get one of some functions."""
    gate, original = Gate(), getattr(owner, name)

    async def slow(self: Any, *args: Any, **options: Any) -> Any:
        if not functions or {*functions} & {*map(_function, args)}:
            await gate.wait()
        return await original(self, *args, **options)

    with mock.patch.object(owner, name, slow):
        try:
            yield gate
        finally:
            gate.opened.set()


def _function(argument: Any) -> Any:
    return argument if callable(argument) else None
