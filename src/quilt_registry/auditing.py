"""Reading the audit trail. Whoever asks was found to be an admin before."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.errors import Invalid
from quilt_registry.events import KINDS


class Asked(Struct, frozen=True, kw_only=True):
    """Which events: those for which all that is given holds."""

    user: str | None = None  # who did it
    subject: str | None = None  # the account it was done to
    owner: str | None = None  # of the package, which may have been deleted
    package: str | None = None
    kinds: tuple[str, ...] = KINDS
    since: datetime | None = None
    until: datetime | None = None  # not included
    before: int | None = None  # id of the last event that was shown


class Event(Struct):
    """Something that happened. `account` did it, None for somebody not signed in; `top_hash` is in hex."""

    id: int
    created_at: datetime
    kind: str
    account: str | None
    subject: str | None
    owner: str | None
    package: str | None
    top_hash: str | None
    extra: dict[str, Any] | None


async def find(db: Database, asked: Asked, limit: int) -> list[Event]:
    """Events, the newest first. Raises Invalid if `before` is the id of none."""
    if asked.before is not None and not await _exists(db, asked.before):
        raise Invalid("before must be the value of `next` in an earlier answer.")
    condition, values = _condition(asked)
    # A kind at a time, as all indexes have the kind before the time: what is read is a few index entries for each
    # event shown, however many there are.
    rows = await db.fetch(
        f"""
        SELECT e.* FROM (
            SELECT newest.id, newest.created_at FROM unnest($1::text[]) k (kind) CROSS JOIN LATERAL (
                SELECT id, created_at FROM event WHERE kind = k.kind{condition}
                ORDER BY created_at DESC, id DESC LIMIT $2
            ) newest
            ORDER BY newest.created_at DESC, newest.id DESC LIMIT $2
        ) shown
        CROSS JOIN LATERAL (
            SELECT id, created_at, kind, account, subject, owner, package, encode(top_hash, 'hex'), extra
            FROM event WHERE id = shown.id LIMIT 1
        ) e
        ORDER BY shown.created_at DESC, shown.id DESC
        """,
        asked.kinds, limit, *values,
    )  # fmt: skip
    return [Event(*row) for row in rows]


async def _exists(db: Database, event_id: int) -> bool:
    return await db.fetchval("SELECT EXISTS (SELECT FROM event WHERE id = $1)", event_id)  # type: ignore[no-any-return]


def _condition(asked: Asked) -> tuple[str, list[Any]]:
    """What was given, as SQL with places from $3 on, and the values for them."""
    given = {
        "account = {}": asked.user,
        "subject = {}": asked.subject,
        "owner = {}": asked.owner,
        "package = {}": asked.package,
        "created_at >= {}": asked.since,
        "created_at < {}": asked.until,
        "(created_at, id) < (SELECT created_at, id FROM event WHERE id = {})": asked.before,
    }
    values = {text: value for text, value in given.items() if value is not None}
    return "".join(f" AND {text.format(f'${place}')}" for place, text in enumerate(values, 3)), list(values.values())
