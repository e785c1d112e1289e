"""Helper processes that run CPU-bound pure functions outside of the event loop.

Decoding a manifest of a million files holds the GIL for a second, so in a thread it would block all other requests of
the process. Small jobs run at once, because sending them to another process would take longer.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any, ParamSpec, TypeVar

from quilt_registry.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

MAX_INLINE_WEIGHT = 500  # manifest entries, or as much work: about a millisecond


class Offload:
    """A pool of helper processes."""

    def __init__(self, processes: int):
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, weight: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of a pure module-level function, or raise its exception.

        `weight` is the approximate number of manifest entries that it processes. Raise Unavailable if the helper dies,
        most likely because it ran out of memory.
        """
        if weight <= MAX_INLINE_WEIGHT:
            return function(*args, **kwargs)
        loop = asyncio.get_running_loop()
        pool = self._pool or self._start()
        try:
            return await loop.run_in_executor(pool, _call, function, args, kwargs)
        except BrokenExecutor as error:
            if self._pool is pool:
                self._pool = None
            raise Unavailable("The registry ran out of memory for this request. Try again in a moment.") from error

    def _start(self) -> ProcessPoolExecutor:
        self._pool = ProcessPoolExecutor(
            self.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare
        )
        return self._pool

    async def warm_up(self, *functions: Callable[..., Any]) -> None:
        """Start the helpers and let them import the modules of some functions, before the first request needs them."""
        weight = MAX_INLINE_WEIGHT + 1
        await asyncio.gather(*(self.run(weight, _import_modules, *functions) for _ in range(self.processes)))

    async def close(self) -> None:
        """Wait for the helpers to end, because Python sometimes fails if it has to wait for them at its exit."""
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)


def end_with_parent() -> None:
    """End this process when its parent ends, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _prepare() -> None:
    """Prepare a new helper process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # because the parent handles Ctrl-C
    end_with_parent()
    os.nice(1)  # so that small requests in the parent run first


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    gc.disable()  # because manifests have no cycles, so that scanning millions of objects would find nothing
    try:
        return function(*args, **kwargs)
    finally:
        gc.enable()


def _import_modules(*functions: Callable[..., Any]) -> None:
    """Do nothing: unpickling the arguments has imported their modules."""
