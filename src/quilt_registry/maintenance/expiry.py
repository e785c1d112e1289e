"""Delete expired tokens, codes, links, rate-limit counters and undeliverable emails."""

from __future__ import annotations

from quilt_registry import background
from quilt_registry.database import Database

INTERVAL = 3600  # seconds

# A redeemed code is distinguished from an unknown one for an hour.
_STATEMENTS = (
    "DELETE FROM token WHERE expires_at < now()",
    "DELETE FROM code WHERE expires_at < now() - interval '1 hour'",
    "DELETE FROM link WHERE expires_at < now()",
    "DELETE FROM allowance WHERE ends_at < now()",
    "DELETE FROM letter WHERE next_try IS NULL AND created_at < now() - interval '30 days'",
)


async def expire_forever(db: Database) -> None:
    """Delete expired rows now and every hour. Several workers may do this at once."""

    async def expire() -> None:
        for statement in _STATEMENTS:
            await db.execute(statement)

    await background.repeat(expire, interval=INTERVAL, failure="Expired rows could not be deleted.")
