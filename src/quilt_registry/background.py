"""Background tasks of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from quilt_registry.errors import Unavailable

log = logging.getLogger(__name__)


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
