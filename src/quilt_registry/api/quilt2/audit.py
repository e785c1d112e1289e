"""The audit trail, for admins: two calls of the original (protocol §17), and one that knows all kinds of events."""

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

NEWEST = 10_000  # of a list of the original, which has no pages


class OldEvent(Struct):
    """What was done to a package; `created` is Unix time."""

    created: float
    user: str | None
    type: str
    package_owner: str | None
    package_name: str | None
    package_hash: str | None
    extra: dict[str, Any] | None


class OldEvents(Struct):
    events: list[OldEvent]


async def of_user(registry: Injected[Registry], owner: FromPath[str]) -> Response[Any]:
    """What somebody did to packages, in order of time: the newest 10,000 events."""
    return await _old(registry, AuditFilter(user=owner, kinds=PACKAGE_KINDS))


async def of_package(registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]) -> Response[Any]:
    """What was done to a package, or to one of that name that was deleted, likewise."""
    return await _old(registry, AuditFilter(owner=owner, package=name, kinds=PACKAGE_KINDS))


async def _old(registry: Injected[Registry], asked: AuditFilter) -> Response[Any]:
    found = await audit.find(registry.db, asked, NEWEST)
    return json(OldEvents([_old_event(each) for each in reversed(found)]))


def _old_event(event: Event) -> OldEvent:
    return OldEvent(
        created=event.created_at.timestamp(),
        user=event.account,
        type=event.kind,
        package_owner=event.owner,
        package_name=event.package,
        package_hash=event.top_hash,
        extra=event.extra,
    )
