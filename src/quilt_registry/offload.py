"""Heavy computing, away from the event loop: pure functions run in helper processes.

Decoding a manifest of a million files holds Python's lock for a second; in a thread it would hold up every other
request of the process. Small jobs are not worth the trip and run at once.
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

SMALL = 500  # manifest entries, or as much work; about a millisecond


class Offload:
    """A few helper processes."""

    def __init__(self, processes: int):
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, weight: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a pure function of a module; `weight` is about how many manifest entries it works on.

        What it raises is raised here. Raises Unavailable if the helper dies, for want of memory most likely.
        """
        if weight <= SMALL:
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
        """Start the helpers, and have them import the modules of some functions, before the first request needs one."""
        await asyncio.gather(*(self.run(SMALL + 1, _imported, *functions) for _ in range(self.processes)))

    async def close(self) -> None:
        """Wait for the helpers to end; Python stumbles now and then over what it must itself wait for at its exit."""
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)


def end_with_parent() -> None:
    """End this process when the one that started it ends, however that ends (kill -9)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _prepare() -> None:
    """In a new helper: Ctrl-C is the parent's business, and small requests go first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    os.nice(1)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Manifests hold no cycles, so the collector would only look at millions of objects in vain."""
    gc.disable()
    try:
        return function(*args, **kwargs)
    finally:
        gc.enable()


def _imported(*functions: Callable[..., Any]) -> None:
    """To be given functions is to have imported their modules."""
