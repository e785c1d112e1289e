"""The audit calls of the original registry (protocol §17). `/api/v1/audit` has events of all kinds."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.api.messages import json
from quilt_registry.audit import PACKAGE_KINDS, AuditFilter, Event
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected

MAX_EVENTS = 10_000  # in a response, because these calls have no paging


class PackageEvent(Struct):
    """An event of a package. `created` is Unix time; `user` is null for a caller who was not signed in."""

    created: float
    user: str | None
    type: str
    package_owner: str | None
    package_name: str | None
    package_hash: str | None
    extra: dict[str, Any] | None


class PackageEventList(Struct):
    """The latest 10,000 events, oldest first."""

    events: list[PackageEvent]


async def list_user_events(registry: Injected[Registry], owner: FromPath[str]) -> Response[Any]:
    """List a user's pushes, installs, previews and deletions of packages, oldest first."""
    return await _list(registry, AuditFilter(user=owner, kinds=PACKAGE_KINDS))


async def list_package_events(registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]) -> Response[Any]:
    """List the pushes, installs, previews and deletions of a package, which may have been deleted, oldest first."""
    return await _list(registry, AuditFilter(owner=owner, package=name, kinds=PACKAGE_KINDS))


async def _list(registry: Injected[Registry], filter: AuditFilter) -> Response[Any]:
    latest = await audit.find(registry.db, filter, MAX_EVENTS)
    return json(PackageEventList([_package_event(event) for event in reversed(latest)]))


def _package_event(event: Event) -> PackageEvent:
    return PackageEvent(
        created=event.created_at.timestamp(),
        user=event.account,
        type=event.kind,
        package_owner=event.owner,
        package_name=event.package,
        package_hash=event.top_hash,
        extra=event.extra,
    )
