"""Background tasks of a worker, and work that is done ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from quilt_registry.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")


async def repeat(
    work: Callable[[], Awaitable[object]], *, interval: float, failure: str, outage_level: int = logging.WARNING
) -> None:
    """Call `work` forever, with a pause of `interval` seconds after each call.

    An exception ends one call, not the task. It is logged with the sentence `failure`, as an error, or at
    `outage_level` if the database or the store is unavailable.
    """
    while True:
        try:
            await work()
        except Unavailable as error:
            log.log(outage_level, "%s %s", failure, error)
        except Exception:  # Nothing awaits this task, so an uncaught exception would end it silently.
            log.exception("%s The next round tries again.", failure)
        await asyncio.sleep(interval)


async def ahead(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Yield items. While the caller works on one, the next one is made. At its end, close `items`."""
    coming = asyncio.create_task(_next(items))
    try:
        while found := await coming:
            coming = asyncio.create_task(_next(items))
            yield found[0]
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await items.aclose()


async def _next(items: AsyncIterator[T]) -> tuple[T] | None:
    """Return the next item in a tuple; None after the last one."""
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None
