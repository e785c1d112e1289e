"""Events of the audit trail, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from litestar.params import QueryParameter
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.api import params
from quilt_registry.audit import KINDS, AuditFilter, Event, Kind
from quilt_registry.errors import Invalid
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


class EventInfo(Struct):
    """An event. The account `user` (null: not signed in) acted on the account `subject`; `created` is ISO 8601."""

    id: int
    created: str
    kind: str
    user: str | None
    subject: str | None
    owner: str | None
    package: str | None
    hash: str | None
    extra: dict[str, Any] | None


class EventPage(Struct):
    """A page of events. Pass `next` as `before` to get the next page; it is null on the last page."""

    events: list[EventInfo]
    next: int | None


def _query(description: str, **more: Any) -> Any:
    return QueryParameter(required=False, description=description, **more)


_time = {"schema_extra": {"format": "date-time"}}
User = Annotated[str | None, _query("The username of the account that acted.")]
Subject = Annotated[str | None, _query("The username of the account that was acted on.")]
Package = Annotated[str | None, _query("OWNER/NAME of a package, which may have been deleted.")]
Kinds = Annotated[list[Kind] | None, _query("The kinds of events; all if absent.")]
Since = Annotated[str | None, _query("Only events at or after this time.", **_time)]
Until = Annotated[str | None, _query("Only events before this time.", **_time)]
Limit = Annotated[int, _query("The maximum number of events on a page.", ge=1, le=MAX_PAGE_SIZE)]
Before = Annotated[int | None, _query("`next` of the previous page.", ge=0, le=params.MAX_BIGINT)]


async def list_events(  # noqa: PLR0913  one argument for each query parameter
    registry: Injected[Registry],
    user: User = None,
    subject: Subject = None,
    package: Package = None,
    kind: Kinds = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = DEFAULT_PAGE_SIZE,
    before: Before = None,
) -> EventPage:
    """List the events that match all filters, newest first."""
    owner, name = _split_package(params.check_text("package", package))
    filter = AuditFilter(
        user=params.check_text("user", user),
        subject=params.check_text("subject", subject),
        owner=owner,
        package=name,
        kinds=tuple(dict.fromkeys(kind)) if kind else KINDS,
        since=params.parse_time("since", since),
        until=params.parse_time("until", until),
        before=before,
    )
    events = await audit.find(registry.db, filter, limit + 1)
    page = events[:limit]
    return EventPage([_event_info(event) for event in page], page[-1].id if len(events) > limit else None)


def _split_package(package: str | None) -> tuple[str, str] | tuple[None, None]:
    if package is None:
        return None, None
    owner, slash, name = package.partition("/")
    if not slash:
        raise Invalid("package must be OWNER/NAME.")
    return owner, name


def _event_info(event: Event) -> EventInfo:
    return EventInfo(
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
