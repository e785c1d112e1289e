"""Reading what stands behind the question mark of an address."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from quilt_registry.errors import Invalid
from quilt_registry.wire.calling import AnyRequest

HIGHEST = 2**63 - 1  # of numbers that the database keeps


def text(request: AnyRequest, name: str) -> str | None:
    """A text; None if it is not there. Raises Invalid for one that the database cannot hold."""
    value: str | None = request.query_params.get(name)
    if value is not None and "\0" in value:
        raise Invalid(f"{name} holds a NUL character.")
    return value


def number(request: AnyRequest, name: str, lowest: int, highest: int) -> int | None:
    """A whole number; None if it is not there. Raises Invalid."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,19}", value) or not lowest <= int(value) <= highest:
        raise Invalid(f"{name} must be a whole number from {lowest} to {highest}.")
    return int(value)


def time(request: AnyRequest, name: str) -> datetime | None:
    """A time by ISO 8601, of UTC if it does not say; None if it is not there. Raises Invalid."""
    value = request.query_params.get(name)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value.replace(" ", "+"))  # a plus in an address means a blank
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"{name} must be a time like 2026-01-31T12:00:00Z.") from None
