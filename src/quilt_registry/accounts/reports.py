"""Reports about all accounts, for admins."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Raw, Struct

from quilt_registry.audit import Kind
from quilt_registry.database import Database


class UserSummary(Struct):
    """An account. `last_login` is None if its user never signed in with a password."""

    name: str
    email: str
    created_at: datetime
    last_login: datetime | None
    is_admin: bool
    is_active: bool


async def list_users(db: Database) -> list[UserSummary]:
    """Return all accounts, by name."""
    rows = await db.fetch("SELECT name, email, created_at, last_login, is_admin, is_active FROM account ORDER BY name")
    return [UserSummary(*row) for row in rows]


async def activity_by_user(db: Database) -> Raw:
    """Return packages owned, events by kind and last activity of each account, by username (protocol §17).

    The database aggregates all events and builds the JSON, so that many users do not block the event loop.
    """
    text = await db.fetchval(
        """
        SELECT coalesce(json_object_agg(a.name, json_build_object(
            'packages', coalesce(owned.count, 0),
            'installs', coalesce(done.installs, 0), 'previews', coalesce(done.previews, 0),
            'pushes', coalesce(done.pushes, 0), 'deletes', coalesce(done.deletes, 0),
            'status', CASE WHEN a.is_active THEN 'active' ELSE 'disabled' END,
            'last_seen', greatest(a.last_login, done.latest),
            'is_admin', a.is_admin) ORDER BY a.name), '{}')::text
        FROM account a
        LEFT JOIN (SELECT owner_id, count(*) FROM package GROUP BY owner_id) owned ON owned.owner_id = a.id
        LEFT JOIN (
            SELECT account, max(created_at) AS latest,
                   count(*) FILTER (WHERE kind = 'INSTALL') AS installs,
                   count(*) FILTER (WHERE kind = 'PREVIEW') AS previews,
                   count(*) FILTER (WHERE kind = 'PUSH') AS pushes,
                   count(*) FILTER (WHERE kind = 'DELETE') AS deletes
            FROM event WHERE account IS NOT NULL GROUP BY account
        ) done ON done.account = a.name
        """
    )
    return Raw(text)


# ------------------------------------------------------------------------------------------------ the page of users

Status = Literal["active", "disabled", "never"]
UserSort = Literal["name", "email", "packages", "pushes", "installs", "views", "seen", "joined"]


class UserFilter(Struct, frozen=True):
    """Conditions on accounts. `text` is a part of the name or email address; `never`: the user has not signed in."""

    text: str = ""
    status: Status | None = None
    admins: bool = False


class UserRow(Struct, frozen=True):
    """An account, with the number of packages that it owns now, and of its events so far."""

    name: str
    email: str
    created_at: datetime
    is_admin: bool
    is_active: bool
    awaits_activation: bool
    last_seen: datetime | None
    packages: int
    pushes: int
    installs: int
    views: int


def _count(kind: Kind) -> str:
    return f"(SELECT count(*) FROM event e WHERE e.account = a.name AND e.kind = '{kind}')"


_PACKAGES = "(SELECT count(*) FROM package p WHERE p.owner_id = a.id)"
# The latest sign-in or use of a token. Revoked tokens are gone, so the latest of the frequent events counts too.
_SEEN = """
    greatest(a.last_login, (SELECT max(t.last_used) FROM token t WHERE t.account_id = a.id), (
        SELECT max(latest.created_at) FROM unnest('{PUSH,INSTALL,PREVIEW,SIGN_OUT}'::text[]) k (kind)
        CROSS JOIN LATERAL (
            SELECT e.created_at FROM event e WHERE e.account = a.name AND e.kind = k.kind
            ORDER BY e.created_at DESC, e.id DESC LIMIT 1) latest))
"""
_ORDERS: dict[UserSort, str] = {
    "name": "a.name",
    "email": "lower(a.email)",
    "packages": f"{_PACKAGES} DESC",
    "pushes": f"{_count('PUSH')} DESC",
    "installs": f"{_count('INSTALL')} DESC",
    "views": f"{_count('PREVIEW')} DESC",
    "seen": f"{_SEEN} DESC NULLS LAST",
    "joined": "a.created_at DESC",
}
_MATCHES = """
    ($1 = '' OR strpos(a.name, lower($1)) > 0 OR strpos(lower(a.email), lower($1)) > 0)
    AND CASE $2 WHEN 'active' THEN a.is_active WHEN 'disabled' THEN NOT a.is_active
        WHEN 'never' THEN a.last_login IS NULL ELSE true END
    AND (a.is_admin OR NOT $3)
"""


class AccountTotals(Struct, frozen=True):
    """Numbers of accounts. `admins` are active."""

    active: int
    disabled: int
    admins: int


async def count_accounts(db: Database) -> AccountTotals:
    """Return the numbers of accounts."""
    row = await db.fetchrow(
        """
        SELECT count(*) FILTER (WHERE is_active), count(*) FILTER (WHERE NOT is_active),
               count(*) FILTER (WHERE is_active AND is_admin) FROM account
        """
    )
    assert row is not None
    return AccountTotals(*row)


async def count_users(db: Database, filter: UserFilter) -> int:
    """Return how many accounts match."""
    query = f"SELECT count(*) FROM account a WHERE {_MATCHES}"
    return await db.value(int, query, filter.text, filter.status, filter.admins)


async def find_users(db: Database, filter: UserFilter, sort: UserSort, *, offset: int, limit: int) -> list[UserRow]:
    """Return matching accounts with their activity. Only that of the returned accounts is counted, if that suffices."""
    rows = await db.fetch(
        f"""
        SELECT a.name, a.email, a.created_at, a.is_admin, a.is_active, a.awaits_activation, {_SEEN}, {_PACKAGES},
               {_count("PUSH")}, {_count("INSTALL")}, {_count("PREVIEW")}
        FROM unnest(ARRAY(
            SELECT a.id FROM account a WHERE {_MATCHES} ORDER BY {_ORDERS[sort]}, a.name LIMIT $4 OFFSET $5
        )) WITH ORDINALITY c (id, place) JOIN account a ON a.id = c.id ORDER BY c.place
        """,
        filter.text, filter.status, filter.admins, limit, offset,
    )  # fmt: skip
    return [UserRow(*row) for row in rows]
