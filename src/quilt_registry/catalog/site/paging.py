"""Numbers of pages in URLs."""

from __future__ import annotations

from quilt_registry.web.requests import AnyRequest

MAX_PAGE = 1000


def page_number(request: AnyRequest) -> int:
    """Return the page of a list that the URL asks for. A number that means nothing counts as 1."""
    text = request.query_params.get("page", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 1
    return min(max(1, number), MAX_PAGE)
