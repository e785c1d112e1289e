"""Reading of a manifest whose pages are fetched when they are needed, so that a huge tree costs what is shown of it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from msgspec import Raw, Struct

from quilt_registry.manifests.pages import Entry, GroupEntry, decode_entry, read_names, read_raw

PROBES = 24  # pages that a search for a name looks at in one step
MAX_PAGES_AHEAD = 256  # 12 MB
NEAR = 16  # pages: if the next child is as near as that, all pages in between are fetched with it

# Returns the bodies of pages by their numbers.
Fetch = Callable[[Sequence[int]], Awaitable[list[bytes]]]


class Place(Struct, frozen=True, gc=False):
    """An entry and its index in the manifest."""

    index: int
    entry: Entry

    @property
    def next(self) -> int:
        """The index of the first entry that is not below this one."""
        return self.index + 1 + (self.entry.entries if isinstance(self.entry, GroupEntry) else 0)


class _Child(NamedTuple):
    page: int
    position: int  # in the manifest
    name: str


class Walk:
    """A reader of one manifest, given the numbers of entries of its pages."""

    def __init__(self, counts: Sequence[int], fetch: Fetch):
        self._starts = list(accumulate(counts, initial=0))  # of each page: the index of its first entry
        self._fetch = fetch
        self._bodies: dict[int, bytes] = {}
        self._page, self._entries = -NEAR - 1, list[Raw]()  # the page that was read last
        self._ahead = 1

    async def find(self, path: Sequence[str]) -> list[Place]:
        """Return the places of the root and of the nodes on a path, as far as they exist."""
        places = [await self._at(0, 1)]
        for name in path:
            child = await self._find_child(places[-1], name)
            if child is None:
                break
            places.append(child)
        return places

    async def children(self, parent: Place, start: int = 0) -> AsyncIterator[Place]:
        """Yield the children of a group in the manifest's order, those from the index `start` on."""
        index = start or parent.index + 1
        while index < parent.next:
            place = await self._at(index, parent.next)
            yield place
            index = place.next

    async def is_child(self, parent: Place, index: int) -> bool:
        """Return whether the entry at an index is a child of a group."""
        if not parent.index < index < parent.next:
            return False
        return (await self._at(index, index + 1)).entry.depth == parent.entry.depth + 1

    async def _find_child(self, parent: Place, name: str) -> Place | None:
        """Return the child of a node with a name. Children are sorted by name, but subtrees lie between them."""
        index, end = parent.index + 1, parent.next
        while index < end:
            index, end = await self._narrow(index, end, parent.entry.depth + 1, name)
            stop = min(end, self._starts[self._page_of(index) + 1])
            while index < stop:
                place = await self._at(index, stop)
                if place.entry.name >= name:
                    return place if place.entry.name == name else None
                index = place.next
        return None

    async def _narrow(self, index: int, end: int, depth: int, name: str) -> tuple[int, int]:
        """Return a smaller span for the child with a name, found from the first children on some of the pages.

        The span begins with a child. Where no page in between has one, the caller steps over what is below.
        """
        first, last = self._page_of(index) + 1, self._page_of(end - 1)
        while first <= last:
            numbers = _spread(first, last)
            is_last_step = len(numbers) > last - first
            await self._load(numbers)
            found = [child for number in numbers if (child := self._first_child(number, depth, end))]
            for child in found:
                if child.name > name:
                    end, last = child.position, child.page - 1
                    break
                index, first = child.position, child.page + 1
            if is_last_step or not found:
                break
        return index, end

    def _first_child(self, page: int, depth: int, end: int) -> _Child | None:
        """Return the first entry of a page that has a depth, up to the index `end`."""
        for index, entry in enumerate(read_names(self._bodies[page]), self._starts[page]):
            if index >= end:
                return None
            if entry.depth == depth:
                return _Child(page, index, entry.name)
        return None

    def _page_of(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    async def _at(self, index: int, end: int) -> Place:
        """Return the entry at an index. `end` is the index up to which the caller may read on."""
        number = self._page_of(index)
        if number != self._page:
            if number not in self._bodies:
                is_near = self._page < number <= self._page + NEAR
                self._ahead = min(self._ahead * 4, MAX_PAGES_AHEAD) if is_near else 1
                await self._load(range(number, min(number + self._ahead, self._page_of(end - 1) + 1)))
            self._page, self._entries = number, read_raw(self._bodies[number])
            await asyncio.sleep(0)  # so that other requests go on while this one decodes many pages
        return Place(index, decode_entry(self._entries[index - self._starts[number]]))

    async def _load(self, numbers: Sequence[int]) -> None:
        self._bodies = dict(zip(numbers, await self._fetch(numbers), strict=True))


def _spread(first: int, last: int) -> list[int]:
    """Return up to PROBES numbers from first to last, evenly spread."""
    count = last - first + 1
    if count <= PROBES:
        return list(range(first, last + 1))
    return [first + count * i // PROBES for i in range(PROBES)]
