"""What happened, who did it: the audit trail. Rows are only ever added; the database refuses anything else."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Invalid

# What clients of the original know. The older audit calls list these only.
PackageKind = Literal["PUSH", "INSTALL", "PREVIEW", "DELETE"]
Kind = Literal[
    PackageKind,
    "TAG_SET",
    "TAG_DELETE",
    "VERSION_SET",
    "ACCESS_GRANT",
    "ACCESS_REVOKE",
    "INVITE",
    "INVITE_CANCEL",
    "INVITE_CLAIM",
    "COMMENT",
    "COMMENT_DELETE",
    "SIGN_IN",
    "SIGN_IN_FAILED",
    "SIGN_OUT",
    "TOKEN_CREATE",
    "TOKEN_REVOKE",
    "ACCOUNT_REGISTER",
    "ACCOUNT_LAPSE",
    "ACCOUNT_ACTIVATE",
    "ACCOUNT_CREATE",
    "ACCOUNT_DISABLE",
    "ACCOUNT_ENABLE",
    "ADMIN_GRANT",
    "ADMIN_REVOKE",
    "PASSWORD_RESET",
    "PASSWORD_CHANGE",
]
PACKAGE_KINDS: tuple[str, ...] = get_args(PackageKind)
KINDS: tuple[str, ...] = get_args(Kind)


class AuditedPackage(Protocol):
    """The package that something was done to."""

    @property
    def id(self) -> int: ...
    @property
    def owner(self) -> str: ...
    @property
    def name(self) -> str: ...


async def record(
    db: Connection | Database,
    kind: Kind,
    account: str | None,
    package: AuditedPackage | None = None,
    top_hash: bytes | None = None,
    subject: str | None = None,
    **extra: Any,
) -> None:
    """Add an event. It is durable when this returns, or when the transaction commits.

    `account` acted (None: not signed in), on the account `subject`. `extra` is kept as JSON.
    """
    named = (package.owner, package.name, package.id) if package else (None, None, None)
    await db.execute(
        """
        INSERT INTO event (kind, account, owner, package, package_id, top_hash, extra, subject)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        kind, account, *named, top_hash, extra or None, subject,
    )  # fmt: skip
    db.recorded[kind] += 1


# ------------------------------------------------------------------------------------------------ reading


class AuditFilter(Struct, frozen=True, kw_only=True):
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


async def find(db: Database, asked: AuditFilter, limit: int) -> list[Event]:
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
    return await db.value(bool, "SELECT EXISTS (SELECT FROM event WHERE id = $1)", event_id)


def _condition(asked: AuditFilter) -> tuple[str, list[Any]]:
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
