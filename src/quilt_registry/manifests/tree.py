"""Reading of stored pages: the whole tree, or the entries at a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from msgspec import UNSET, Raw, UnsetType

from quilt.manifest import GROUPS, Child, File, Group, Root, Table
from quilt_registry.manifests.pages import Entry, GroupEntry, PageBodies, Span, TableEntry, read, split


def rebuild(bodies: Sequence[bytes]) -> tuple[Root, dict[str, int]]:
    """Return the tree of all pages of a manifest, and the sizes of its objects."""
    root = Root({})
    sizes: dict[str, int] = {}
    open_groups: list[Root | Group] = []
    for entry in chain.from_iterable(map(read, bodies)):
        meta: str | UnsetType = UNSET
        if entry.meta is not None:
            meta = entry.meta.hex()
            sizes[entry.meta.hex()] = entry.meta_size
        if not open_groups:
            root.metadata_hash = meta
            open_groups.append(root)
            continue
        del open_groups[entry.depth :]
        node: Child
        if isinstance(entry, GroupEntry):
            node = Group({}, meta)
        else:
            hashes = [digest.hex() for digest in split(entry.digests)]
            sizes.update(zip(hashes, entry.sizes, strict=True))
            kind = Table if isinstance(entry, TableEntry) else File
            make = partial(Table, format="PARQUET") if kind is Table else File
            node = make(hashes=hashes, metadata=Raw(entry.metadata), metadata_hash=meta)
        open_groups[-1].children[entry.name] = node
        if isinstance(node, GROUPS):
            open_groups.append(node)
    return root, sizes


class PathNotFound(LookupError):
    """A path without a node. `name` is the first name that does not exist."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def find_span(stored: PageBodies, path: Sequence[str]) -> Span:
    """Return the span of entries of the node at a path and everything below it. Raise PathNotFound.

    Siblings are skipped by their counts, so that only the pages on the path are decompressed.
    """
    entries = _Cursor(stored)
    entry = entries[0]
    index = 0
    for depth, name in enumerate(path, 1):
        index += 1
        end = index + _below(entry)
        while index < end and (entry := entries[index]).name != name:
            index += 1 + _below(entry)
        if index >= end:
            raise PathNotFound(name)
        assert entry.depth == depth
    return index, index + 1 + _below(entry)


def _below(entry: Entry) -> int:
    return entry.entries if isinstance(entry, GroupEntry) else 0


def check_no_leaf_on_path(stored: PageBodies, path: Sequence[str], error: Callable[[str], Exception]) -> None:
    """Raise `error(name)` if a path for a new node leads through a FILE or TABLE."""
    entries = _Cursor(stored)
    for length in range(1, len(path)):
        try:
            start, _ = find_span(stored, path[:length])
        except PathNotFound:
            return
        if not isinstance(entries[start], GroupEntry):
            raise error(path[length - 1])


class _Cursor:
    """Access to entries by ascending index. It reads a page when its first entry is needed."""

    def __init__(self, stored: PageBodies):
        self.bodies, self.counts = stored.bodies, stored.counts
        self.page, self.start, self.entries = -1, 0, list[Entry]()

    def __getitem__(self, index: int) -> Entry:
        while index >= self.start + len(self.entries):
            self._advance(index)
        return self.entries[index - self.start]

    def _advance(self, index: int) -> None:
        self.start += len(self.entries)
        self.page += 1
        while index >= self.start + self.counts[self.page]:
            self.start += self.counts[self.page]
            self.page += 1
        self.entries = read(self.bodies[self.page])
