"""Accounts and packages as admins see them (protocol §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.accounts import reports
from quilt_registry.api import params
from quilt_registry.api.messages import json
from quilt_registry.packages import activity, listing
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


class UserEntry(Struct):
    """An account. `last_login` is null for a user who never signed in with a password."""

    username: str
    email: str
    date_joined: str
    last_login: str | None
    is_superuser: bool
    is_active: bool


class UserList(Struct):
    """Accounts, by username."""

    results: list[UserEntry]


class UserActivity(Struct):
    """The number of packages that a user owns now, and of events so far. `last_seen` is null if there are none."""

    packages: int
    installs: int
    previews: int
    pushes: int
    deletes: int
    status: str
    last_seen: str | None
    is_admin: bool


class UserActivityReport(Struct):
    """The activity of each user, by username."""

    users: dict[str, UserActivity]


class EventCount(Struct):
    """The number of events, and the Unix time of the latest, which is absent if there are none."""

    count: int
    latest: float | None = None


class PackageActivity(Struct):
    """The events of a package."""

    pushes: EventCount
    installs: EventCount
    previews: EventCount
    deletes: EventCount


class PackageActivityReport(Struct):
    """The events of each package, by OWNER/NAME."""

    packages: dict[str, PackageActivity]


async def list_users(registry: Injected[Registry]) -> Response[Any]:
    """List all accounts, by username."""
    return json(UserList([_user_entry(each) for each in await reports.list_users(registry.db)]))


def _user_entry(account: reports.UserSummary) -> UserEntry:
    return UserEntry(
        username=account.name,
        email=account.email,
        date_joined=account.created_at.isoformat(),
        last_login=account.last_login.isoformat() if account.last_login else None,
        is_superuser=account.is_admin,
        is_active=account.is_active,
    )


async def list_users_detailed(registry: Injected[Registry]) -> Response[Any]:
    """Return the activity of all accounts."""
    return json({"users": await reports.activity_by_user(registry.db)})


async def list_packages(
    request: AnyRequest, member: Injected[Member], registry: Injected[Registry], owner: FromPath[str]
) -> Response[Any]:
    """List all packages of an owner, including those that the admin may not read: all, or a page."""
    return json(await listing.list_all_packages(registry.db, member, owner, params.paging(request)))


async def summarize_packages(registry: Injected[Registry]) -> Response[Any]:
    """Return how often each package, including deleted ones, was pushed, installed, previewed and deleted."""
    return json({"packages": await activity.summary(registry.db)})
