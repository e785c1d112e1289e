"""Numbered pages of long lists."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.web.requests import AnyRequest

MAX_PAGE = 1_000_000


class Page(Struct, frozen=True):
    """A page of a list with `total` entries; `size` is that of a full page. Numbers begin at 1."""

    number: int
    size: int
    total: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.size

    @property
    def last(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def is_beyond(self) -> bool:
        """Whether the list ends before this page."""
        return self.number > self.last

    @property
    def previous(self) -> int | None:
        return self.number - 1 if 1 < self.number <= self.last else None

    @property
    def next(self) -> int | None:
        return self.number + 1 if self.number < self.last else None


def page_number(request: AnyRequest) -> int:
    """Return the page of a list that the URL asks for. A number that means nothing counts as 1."""
    text = request.query_params.get("page", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_PAGE)) else 1
    return min(max(1, number), MAX_PAGE)


def page_of(request: AnyRequest, size: int, total: int) -> Page:
    """Return the page of a list of this length that the URL asks for."""
    return Page(page_number(request), size, total)


def page_with(position: int, size: int, total: int) -> Page:
    """Return the page that contains the entry at a position, counted from 0."""
    return Page(position // size + 1, size, total)
