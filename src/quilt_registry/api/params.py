"""Query parameters."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from quilt_registry.errors import Invalid
from quilt_registry.packages.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Paging
from quilt_registry.web.requests import AnyRequest

MAX_BIGINT = 2**63 - 1  # the highest number that a database column can hold


def text(request: AnyRequest, name: str) -> str | None:
    """Return a text parameter; None if it is absent. Raise Invalid if the database cannot hold it."""
    return check_text(name, request.query_params.get(name))


def check_text(name: str, value: str | None) -> str | None:
    """Return a text unchanged. Raise Invalid if the database cannot hold it."""
    if value is not None and "\0" in value:
        raise Invalid(f"{name} contains a NUL character.")
    return value


def number(request: AnyRequest, name: str, lowest: int, highest: int) -> int | None:
    """Return a whole number within bounds; None if it is absent. Raise Invalid."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,19}", value) or not lowest <= int(value) <= highest:
        raise Invalid(f"{name} must be a whole number from {lowest} to {highest}.")
    return int(value)


def paging(request: AnyRequest) -> Paging:
    """Return the page that `limit` and `after` ask for, or the whole list if both are absent. Raise Invalid."""
    limit, after = number(request, "limit", 1, MAX_PAGE_SIZE), text(request, "after")
    if limit is None and after is None:
        return Paging()
    return Paging(limit or DEFAULT_PAGE_SIZE, after or "")


def parse_time(name: str, value: str | None) -> datetime | None:
    """Return an ISO 8601 time, converted to UTC, which is the default time zone; None if absent. Raise Invalid."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value.replace(" ", "+"))  # a plus in a query decodes to a space
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"{name} must be a time like 2026-01-31T12:00:00Z.") from None
