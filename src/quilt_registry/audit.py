"""The audit trail. Events are only added: the database refuses to change or delete them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

import msgspec
from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Invalid

# The kinds that clients of the original registry know. The older audit calls return only these.
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
    "AUDIT_EXPORT",
]
PACKAGE_KINDS: tuple[str, ...] = get_args(PackageKind)
KINDS: tuple[str, ...] = get_args(Kind)

Client = Literal["cli", "web", "other"]
CLIENTS: tuple[Client, ...] = get_args(Client)
# What sent the request that is being handled: the command line, a page, or another program. None: no request.
current_client: ContextVar[Client | None] = ContextVar("current_client", default=None)

MAX_COUNTED = 10_000  # events of a kind
EXPORT_BATCH_SIZE = 1000  # events


class AuditedPackage(Protocol):
    """The package of an event."""

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
    """Record an event. It is durable when this returns, or when the transaction commits.

    `account` acted (None: not signed in) on the account `subject`. `extra` is stored as JSON.
    """
    package_columns = (package.owner, package.name, package.id) if package else (None, None, None)
    await db.execute(
        """
        INSERT INTO event (kind, account, owner, package, package_id, top_hash, extra, subject, client)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        kind, account, *package_columns, top_hash, extra or None, subject, current_client.get(),
    )  # fmt: skip
    db.recorded[kind] += 1


async def record_all(
    db: Connection | Database,
    kind: Kind,
    account: str | None,
    packages: Sequence[AuditedPackage],
    extras: Sequence[Any],
) -> None:
    """Record an event of each package, with its `extra`, in one statement."""
    await db.execute(
        """
        INSERT INTO event (kind, account, client, owner, package, package_id, extra)
        SELECT $1, $2, $7, * FROM unnest($3::text[], $4::text[], $5::bigint[], $6::jsonb[])
        """,
        kind, account, [package.owner for package in packages], [package.name for package in packages],
        [package.id for package in packages], extras, current_client.get(),
    )  # fmt: skip
    db.recorded[kind] += len(packages)


class AuditFilter(Struct, frozen=True, kw_only=True):
    """A filter for events. An event matches if it meets all conditions that are set."""

    user: str | None = None  # account that acted
    subject: str | None = None  # account that was acted on
    owner: str | None = None  # of the package, which may have been deleted
    package: str | None = None
    kinds: tuple[str, ...] = KINDS
    since: datetime | None = None
    until: datetime | None = None  # exclusive
    client: Client | None = None
    before: int | None = None  # id of the last event of the previous page


class Event(Struct):
    """A recorded event. `account` acted (None: not signed in); `top_hash` is hexadecimal.

    `package_id` distinguishes packages of the same name. `client` is None if it is unknown.
    """

    id: int
    created_at: datetime
    kind: str
    account: str | None
    subject: str | None
    owner: str | None
    package: str | None
    top_hash: str | None
    extra: dict[str, Any] | None
    package_id: int | None
    client: str | None


async def find(db: Database, filter: AuditFilter, limit: int) -> list[Event]:
    """Return matching events, newest first. Raise Invalid if no event has the id `before`."""
    if filter.before is not None and not await _exists(db, filter.before):
        raise Invalid("before must be the value of `next` in an earlier response.")
    condition, values = _condition(filter, 3)
    # One kind at a time, because all indexes have the kind before the time. This reads a few index entries for each
    # returned event, however many events there are.
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
            SELECT id, created_at, kind, account, subject, owner, package, encode(top_hash, 'hex'), extra,
                   package_id, client
            FROM event WHERE id = shown.id LIMIT 1
        ) e
        ORDER BY shown.created_at DESC, shown.id DESC
        """,
        filter.kinds, limit, *values,
    )  # fmt: skip
    return [Event(*row) for row in rows]


async def count(db: Database, filter: AuditFilter) -> dict[str, int]:
    """Return how many events match, by kind, without kinds of which there are none. None exceeds MAX_COUNTED."""
    condition, values = _condition(filter, 2)
    rows = await db.fetch(
        f"""
        SELECT k.kind, counted.events FROM unnest($1::text[]) k (kind) CROSS JOIN LATERAL (
            SELECT count(*) AS events FROM (
                SELECT FROM event WHERE kind = k.kind{condition} LIMIT {MAX_COUNTED}) matching
        ) counted WHERE counted.events > 0
        """,
        filter.kinds, *values,
    )  # fmt: skip
    return {row["kind"]: row["events"] for row in rows}


async def estimate(db: Database, filter: AuditFilter) -> int:
    """Return about how many events match, as the database's statistics say, to two digits."""
    condition, values = _condition(filter, 2)
    query = f"EXPLAIN (FORMAT JSON) SELECT FROM event WHERE kind = ANY($1::text[]){condition}"
    plan = await db.fetchval(query, filter.kinds, *values)
    rows = int((msgspec.json.decode(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"])
    return round(rows, 2 - len(str(rows)))


async def exceeds(db: Database, filter: AuditFilter, number: int) -> bool:
    """Return whether more events match than a number."""
    condition, values = _condition(filter, 3)
    return await db.value(
        bool,
        f"SELECT EXISTS (SELECT FROM event WHERE kind = ANY($1::text[]){condition} OFFSET $2)",
        filter.kinds, number, *values,
    )  # fmt: skip


async def export(db: Database, filter: AuditFilter) -> AsyncIterator[list[Event]]:
    """Yield all matching events in batches, newest first."""
    while events := await find(db, filter, EXPORT_BATCH_SIZE):
        yield events
        filter = msgspec.structs.replace(filter, before=events[-1].id)


async def _exists(db: Database, event_id: int) -> bool:
    return await db.value(bool, "SELECT EXISTS (SELECT FROM event WHERE id = $1)", event_id)


def _condition(filter: AuditFilter, first: int) -> tuple[str, list[Any]]:
    """Return a filter but for its kinds as SQL, and the values of its parameters, the first of which has a number."""
    conditions = {
        "account = {}": filter.user,
        "subject = {}": filter.subject,
        "owner = {}": filter.owner,
        "package = {}": filter.package,
        "client = {}": filter.client,
        "created_at >= {}": filter.since,
        "created_at < {}": filter.until,
        "(created_at, id) < (SELECT created_at, id FROM event WHERE id = {})": filter.before,
    }
    values = {sql: value for sql, value in conditions.items() if value is not None}
    return "".join(f" AND {sql.format(f'${number}')}" for number, sql in enumerate(values, first)), list(
        values.values()
    )
