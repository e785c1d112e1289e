"""What admins see of accounts and packages (protocol §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.accounts import reports
from quilt_registry.api.messages import json
from quilt_registry.packages import activity, listing
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected


class User(Struct):
    """An account. `last_login` is null for who never signed in with a password."""

    username: str
    email: str
    date_joined: str
    last_login: str | None
    is_superuser: bool
    is_active: bool


class Users(Struct):
    results: list[User]


class Deeds(Struct):
    """How many packages somebody owns now, and what they ever did. `last_seen` is null for who never did anything."""

    packages: int
    installs: int
    previews: int
    pushes: int
    deletes: int
    status: str
    last_seen: str | None
    is_admin: bool


class DetailedUsers(Struct):
    users: dict[str, Deeds]


class Count(Struct):
    """How often, and when last in Unix time, which is not there when it never was."""

    count: int
    latest: float | None = None


class Counts(Struct):
    pushes: Count
    installs: Count
    previews: Count
    deletes: Count


class Summary(Struct):
    packages: dict[str, Counts]


async def list_users(registry: Injected[Registry]) -> Response[Any]:
    """All accounts, by name."""
    return json(Users([_user(each) for each in await reports.list_users(registry.db)]))


def _user(account: reports.UserSummary) -> User:
    return User(
        username=account.name,
        email=account.email,
        date_joined=account.created_at.isoformat(),
        last_login=account.last_login.isoformat() if account.last_login else None,
        is_superuser=account.is_admin,
        is_active=account.is_active,
    )


async def list_users_detailed(registry: Injected[Registry]) -> Response[Any]:
    """All accounts by name, with what they own and did."""
    return json({"users": await reports.activity_by_user(registry.db)})


async def list_packages(member: Injected[Member], registry: Injected[Registry], owner: FromPath[str]) -> Response[Any]:
    """An owner's packages, whoever may read them."""
    return json({"packages": await listing.all_of_owner(registry.db, member, owner)})


async def summarise_packages(registry: Injected[Registry]) -> Response[Any]:
    """How often each package was pushed, installed, previewed and deleted; deleted packages too."""
    return json({"packages": await activity.summary(registry.db)})
