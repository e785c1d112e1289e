"""Reports about all accounts, for admins."""

from __future__ import annotations

from datetime import datetime

from msgspec import Raw, Struct

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
