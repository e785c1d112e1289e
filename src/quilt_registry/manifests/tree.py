"""From stored pages back to the tree, and the way to a node without reading the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from msgspec import UNSET, Raw, UnsetType

from quilt.manifest import GROUPS, Child, File, Group, Root, Table
from quilt_registry.manifests.pages import Entry, GroupEntry, PageBodies, Span, TableEntry, read, split


def tree_of(bodies: Sequence[bytes]) -> tuple[Root, dict[str, int]]:
    """The whole tree again, and the sizes of its objects."""
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


class PathMissing(LookupError):
    """No node at a path; carries the first name that leads nowhere."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def find(stored: PageBodies, path: Sequence[str]) -> Span:
    """The span of entries of the node at a path and everything below it.

    Steps over siblings by their counts: reads the pages on the way, never the tree. Raises PathMissing.
    """
    at = _Cursor(stored)
    entry = at[0]
    index = 0
    for depth, name in enumerate(path, 1):
        index += 1
        end = index + _below(entry)
        while index < end and (entry := at[index]).name != name:
            index += 1 + _below(entry)
        if index >= end:
            raise PathMissing(name)
        assert entry.depth == depth
    return index, index + 1 + _below(entry)


def check_no_leaf_on_path(stored: PageBodies, path: Sequence[str], refuse: Callable[[str], Exception]) -> None:
    """Raises `refuse(name)` if a leaf stands in the way of something that is to go to `path`."""
    at = _Cursor(stored)
    for length in range(1, len(path)):
        try:
            start, _ = find(stored, path[:length])
        except PathMissing:
            return
        if not isinstance(at[start], GroupEntry):
            raise refuse(path[length - 1])


def _below(entry: Entry) -> int:
    return entry.entries if isinstance(entry, GroupEntry) else 0


class _Cursor:
    """Entries by their number, reading a page when it is needed first."""

    def __init__(self, stored: PageBodies):
        self.bodies, self.counts = stored.bodies, stored.counts
        self.page, self.start, self.entries = -1, 0, list[Entry]()

    def __getitem__(self, index: int) -> Entry:
        while index >= self.start + len(self.entries):
            self._turn(index)
        return self.entries[index - self.start]

    def _turn(self, index: int) -> None:
        """Go on to the page that holds the entry. The cursor only moves forward."""
        self.start += len(self.entries)
        self.page += 1
        while index >= self.start + self.counts[self.page]:
            self.start += self.counts[self.page]
            self.page += 1
        self.entries = read(self.bodies[self.page])
