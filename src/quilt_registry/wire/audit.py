"""The audit trail, for admins: two calls of the original (protocol §17), and one that knows all kinds of events."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry import auditing
from quilt_registry.auditing import Asked, Event
from quilt_registry.errors import Invalid
from quilt_registry.events import KINDS, PACKAGE_KINDS
from quilt_registry.parts import Parts
from quilt_registry.wire import queries
from quilt_registry.wire.calling import Admin, AnyRequest, Registry
from quilt_registry.wire.messages import json

NEWEST = 10_000  # of a list of the original, which has no pages
USUAL, MOST = 100, 1000  # of a page


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


class AnyEvent(Struct):
    """What happened: `user` did it, null for somebody not signed in; `subject` is the account it was done to."""

    id: int
    created: str
    kind: str
    user: str | None
    subject: str | None
    owner: str | None
    package: str | None
    hash: str | None
    extra: dict[str, Any] | None


class Events(Struct):
    """`next` goes into `before` for the page after this one; null for the last one."""

    events: list[AnyEvent]
    next: int | None


async def of_user(admin: Admin, parts: Registry, owner: str) -> Response[Any]:
    """What somebody did to packages, in order of time: the newest 10,000 events."""
    return await _old(parts, Asked(user=owner, kinds=PACKAGE_KINDS))


async def of_package(admin: Admin, parts: Registry, owner: str, name: str) -> Response[Any]:
    """What was done to a package, or to one of that name that was deleted, likewise."""
    return await _old(parts, Asked(owner=owner, package=name, kinds=PACKAGE_KINDS))


async def _old(parts: Parts, asked: Asked) -> Response[Any]:
    found = await auditing.find(parts.db, asked, NEWEST)
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


async def find(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """Events of all kinds, the newest first, for which all holds that is asked for."""
    limit = queries.number(request, "limit", 1, MOST) or USUAL
    found = await auditing.find(parts.db, _asked(request), limit + 1)
    shown = found[:limit]
    return json(Events([_event(each) for each in shown], shown[-1].id if len(found) > limit else None))


def _asked(request: AnyRequest) -> Asked:
    owner, name = _package(request)
    return Asked(
        user=queries.text(request, "user"),
        subject=queries.text(request, "subject"),
        owner=owner,
        package=name,
        kinds=_kinds(request),
        since=queries.time(request, "since"),
        until=queries.time(request, "until"),
        before=queries.number(request, "before", 0, queries.HIGHEST),
    )


def _package(request: AnyRequest) -> tuple[str, str] | tuple[None, None]:
    package = queries.text(request, "package")
    if package is None:
        return None, None
    owner, slash, name = package.partition("/")
    if not slash:
        raise Invalid("package must be OWNER/NAME.")
    return owner, name


def _kinds(request: AnyRequest) -> tuple[str, ...]:
    asked = tuple(dict.fromkeys(request.query_params.getall("kind", [])))
    unknown = ", ".join(repr(kind)[:40] for kind in asked if kind not in KINDS)
    if unknown:
        raise Invalid(f"There are no events of the kind {unknown[:200]}. Kinds are {', '.join(KINDS)}.")
    return asked or KINDS


def _event(event: Event) -> AnyEvent:
    return AnyEvent(
        id=event.id,
        created=event.created_at.isoformat(),
        kind=event.kind,
        user=event.account,
        subject=event.subject,
        owner=event.owner,
        package=event.package,
        hash=event.top_hash,
        extra=event.extra,
    )
