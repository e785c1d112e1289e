"""Helper processes that run CPU-bound pure functions outside of the event loop.

Decoding a manifest of a million files holds the GIL for a second, so in a thread it would block all other requests of
the process. Small jobs run at once, because sending them to another process would take longer.

A helper has limits of memory and time, so that a request can neither exhaust the machine nor hold a helper. Users take
turns (`turns.py`), and heavy jobs leave one helper to light ones, so that small requests do not wait for large pushes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from quilt_registry.errors import Refusal, TooLarge, Unavailable
from quilt_registry.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")

# Weights are numbers of manifest entries, or as much work.
MAX_INLINE_WEIGHT = 500  # about a millisecond
MAX_LIGHT_WEIGHT = 20_000  # some tenths of a second
LIGHT_TIMEOUT, HEAVY_TIMEOUT = 60, 180  # seconds that a job may take
MIN_MEMORY, MAX_MEMORY = 2 * 2**30, 4 * 2**30  # bytes of a helper; a push of a million files needs more than one GiB
MAX_KEPT_MEMORY = 300 * 2**20  # bytes; a helper that needed more is replaced, because Python returns only parts of it
TIDY_INTERVAL = 10  # seconds

OUT_OF_MEMORY = "The registry ran out of memory for this request. Try again in a moment."
TOO_LATE = "The registry stopped this request because it took too long. Push the package in smaller parts."

_context = multiprocessing.get_context("spawn")


class Offload:
    """A pool of helper processes. At least two, so that heavy jobs leave one to light jobs.

    `workers` is the number of pools on this machine, which share its memory.
    """

    def __init__(self, processes: int, workers: int = 1):
        self.processes = processes
        self._heavy_jobs = workers * max(1, processes - 1)  # at most, in all pools
        self._turns = Turns(processes)
        self._helpers: set[_Helper] = set()
        self._idle: list[_Helper] = []  # heavy jobs use the first, light ones the last
        self._is_tidy = True
        # A thread waits for each running helper.
        self._threads = ThreadPoolExecutor(processes, "helper")

    async def run(self, weight: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of a pure module-level function, or raise its exception.

        `weight` is the approximate number of manifest entries that it processes. Raise TooLarge if it needs more memory
        than a helper may use, Unavailable if it takes too long or the helper dies.
        """
        if weight <= MAX_INLINE_WEIGHT:
            return function(*args, **kwargs)
        heavy = weight > MAX_LIGHT_WEIGHT
        await self._turns.take(heavy=heavy)
        # A task of its own, because the helper works on when the request is cancelled.
        work = asyncio.create_task(self._work((function, args, kwargs), heavy=heavy))
        work.add_done_callback(_retrieve)
        result: T = await asyncio.shield(work)
        return result

    async def _work(self, job: Any, *, heavy: bool) -> Any:
        """Let a helper do a job in a turn that was taken, and give the turn back."""
        loop = asyncio.get_running_loop()
        helper = self._idle.pop(0 if heavy else -1) if self._idle else _Helper(self._heavy_jobs)
        helper.reason = OUT_OF_MEMORY
        self._helpers.add(helper)
        timer = loop.call_later(HEAVY_TIMEOUT if heavy else LIGHT_TIMEOUT, helper.stop_late)
        try:
            succeeded, result = await loop.run_in_executor(self._threads, helper.call, job)
            self._idle.insert(0 if heavy else len(self._idle), helper)
        except BaseException as error:
            self._helpers.discard(helper)
            await asyncio.to_thread(helper.close)
            if isinstance(error, EOFError | OSError):
                raise Unavailable(helper.reason) from error
            raise
        finally:
            timer.cancel()
            self._is_tidy = self._is_tidy and not heavy
            self._turns.give_back(heavy=heavy)
        if not succeeded:
            raise result
        return result

    async def warm_up(self, *functions: Callable[..., Any]) -> None:
        """Start the helpers and let them import the modules of some functions, before the first request needs them."""
        weight = MAX_INLINE_WEIGHT + 1
        await asyncio.gather(*(self.run(weight, _import_modules, *functions) for _ in range(self.processes)))

    async def tidy(self) -> None:
        """Return memory that heavy jobs have left in this process to the system. A background task calls it."""
        if not self._is_tidy:
            self._is_tidy = True
            await asyncio.to_thread(_release_memory)

    async def close(self) -> None:
        """End the helpers, and wait for that."""
        await asyncio.gather(*(asyncio.to_thread(helper.close) for helper in self._helpers))
        self._threads.shutdown(wait=False)


class _Helper:
    """A helper process, which does one job at a time. It starts with the first job."""

    def __init__(self, heavy_jobs: int) -> None:
        self._heavy_jobs = heavy_jobs
        self.reason = OUT_OF_MEMORY  # why it died
        self._process: Any = None
        self._pipe: Connection

    def call(self, job: Any) -> tuple[bool, Any]:
        """Return whether a job succeeded, and its result or exception. Raise EOFError or OSError if the process dies.

        Blocks until the job is done.
        """
        if self._process is None or not self._process.is_alive():
            self._start()
        self._pipe.send(job)
        succeeded, result = self._pipe.recv()
        if self._pipe.recv():  # whether it ends
            self._process = None
        return succeeded, result

    def _start(self) -> None:
        self._pipe, theirs = _context.Pipe()
        process = _context.Process(target=_serve, args=(theirs, memory_limit(self._heavy_jobs)), daemon=True)
        process.start()
        theirs.close()
        self._process = process

    def stop_late(self) -> None:
        """End the process because its job takes too long."""
        self.reason = TOO_LATE
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process and wait until it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


def memory_limit(heavy_jobs: int) -> int:
    """Return how many bytes a helper may use, if so many heavy jobs share half of the machine's memory."""
    half = machine_memory() // 2
    return min(MAX_MEMORY, half, max(MIN_MEMORY, half // heavy_jobs))


def machine_memory() -> int:
    """Return how many bytes of memory this machine or container has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def end_with_parent() -> None:
    """End this process when its parent ends, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _retrieve(work: asyncio.Task[Any]) -> None:
    """Look at the exception of a job whose request is gone, because asyncio logs those that nothing looks at."""
    if not work.cancelled():
        work.exception()


# ------------------------------------------------------------------------------------------ in the helper process


def _serve(pipe: Connection, memory: int) -> None:
    """Do one job after the other until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # because the parent handles Ctrl-C
    end_with_parent()
    os.nice(1)  # so that small requests in the parent run first
    with contextlib.suppress(ValueError):  # the system's own limit is lower
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(OSError):  # so that a kernel without memory kills this process, not the parent
        Path("/proc/self/oom_score_adj").write_text("500")
    with contextlib.suppress(EOFError, OSError, MemoryError):
        ends = False
        while not ends:
            pipe.send_bytes(_do(pipe.recv_bytes(), memory))
            ends = _peak_memory() > MAX_KEPT_MEMORY
            pipe.send(ends)
            _release_memory()


def _peak_memory() -> int:
    """Return the most bytes that this process has used; 0 where the system does not say it.

    Not `getrusage`, which also counts the parent's memory at the time of the spawn.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _do(job: bytes, memory: int) -> Any:
    """Do a pickled job. Return whether it succeeded, and its result or exception, pickled."""
    gc.disable()  # because manifests have no cycles, so that scanning millions of objects would find nothing
    try:
        function, args, kwargs = pickle.loads(job)  # noqa: S301  from the parent
        return ForkingPickler.dumps((True, function(*args, **kwargs)))
    except MemoryError:
        limit = f"{memory // 2**20:,} MB"
        return ForkingPickler.dumps(
            (False, TooLarge(f"This request needs more memory than {limit}. Push the package in smaller parts."))
        )
    except Exception as error:
        if not isinstance(error, Refusal):
            error.add_note(traceback.format_exc())
        return ForkingPickler.dumps((False, error))
    finally:
        gc.enable()


def _release_memory() -> None:
    """Return free memory to the system, which glibc keeps otherwise."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _import_modules(*functions: Callable[..., Any]) -> None:
    """Do nothing: unpickling the arguments has imported their modules."""
