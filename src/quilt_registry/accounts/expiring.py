"""What has had its time is removed: tokens, codes, links, counts of what is limited, letters that nobody got."""

from __future__ import annotations

import asyncio
import logging

from quilt_registry.database import Database
from quilt_registry.errors import Unavailable

log = logging.getLogger(__name__)

EVERY = 3600  # seconds

# A spent code is told from an unknown one for a while.
_OVER = (
    "DELETE FROM token WHERE expires_at < now()",
    "DELETE FROM code WHERE expires_at < now() - interval '1 hour'",
    "DELETE FROM link WHERE expires_at < now()",
    "DELETE FROM allowance WHERE ends_at < now()",
    "DELETE FROM letter WHERE next_try IS NULL AND created_at < now() - interval '30 days'",
)


async def keep_expiring(db: Database) -> None:
    """Remove what is over, now and every hour, for ever. Several workers at it do no harm."""
    while True:
        try:
            for statement in _OVER:
                await db.execute(statement)
        except Unavailable as error:
            log.warning("What is over could not be removed: %s", error)
        except Exception:  # nobody waits for this task: without a word it would be gone for good
            log.exception("What is over could not be removed.")
        await asyncio.sleep(EVERY)
