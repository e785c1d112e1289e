"""Pages of long lists, for callers that ask for one. All others get the whole list, as released clients expect it."""

from __future__ import annotations

from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType

T = TypeVar("T")

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


class Paging(Struct, frozen=True):
    """The part of a list that is asked for: at most `limit` entries after `after`; None and "" for all."""

    limit: int | None = None
    after: str = ""

    @property
    def fetched(self) -> int | None:
        """The number of entries to look for: one more than the page has, which tells whether there are others."""
        return None if self.limit is None else self.limit + 1

    def cut(self, entries: list[T]) -> tuple[list[T], T | None]:
        """Return the entries of the page, and its last one if there are others after it."""
        if self.limit is None or len(entries) <= self.limit:
            return entries, None
        return entries[: self.limit], entries[self.limit - 1]

    def next(self, cursor: str | None) -> str | UnsetType | None:
        """Return the field `next` of a response, which has none if no page is asked for."""
        return UNSET if self.limit is None else cursor
