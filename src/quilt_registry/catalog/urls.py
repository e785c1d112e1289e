"""Paths of pages, percent-encoded for each segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import quote, urlencode

Field: TypeAlias = str | int | Sequence[str] | None  # several texts are a field that occurs several times


def url(*segments: str, **query: Field) -> str:
    """Return the path of a page with the given segments and those fields of a query that have a value.

    `url("package", "anna", "iris", tag="prod")` is `/package/anna/iris?tag=prod`.
    """
    path = "/" + "/".join(quote(segment, safe="", errors="replace") for segment in segments)
    return with_query(path, **query)


def package_url(owner: str, name: str, *segments: str, **query: Field) -> str:
    """Return the path of one of a package's pages."""
    return url("package", owner, name, *segments, **query)


def with_query(path: str, **query: Field) -> str:
    """Return a path with those fields of a query that have a value."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    fields = urlencode(given, doseq=True, quote_via=quote)
    return f"{path}?{fields}" if fields else path
