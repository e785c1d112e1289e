"""The files of a version: folders, single nodes, a search in their paths, and the contents of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Literal

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.cache import Cache
from quilt_registry.database import Database
from quilt_registry.errors import Unavailable
from quilt_registry.manifests import find as finding
from quilt_registry.manifests.find import FoundPaths
from quilt_registry.manifests.pages import FileEntry, GroupEntry, TableEntry, split
from quilt_registry.manifests.walk import Place, Walk
from quilt_registry.offload import Offload
from quilt_registry.packages import access, instances
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import Instance
from quilt_registry.previews import kinds
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectState, final_key

ROWS_PER_PAGE = 200
MAX_SORTED = 5000  # children of a folder that can be sorted; more stay in the manifest's order
MAX_FOUND = 100
MAX_METADATA_BYTES = 64 * 1024  # of a node, on its page
README = "README"

SortKey = Literal["name", "size", "kind"]

_DIGITS = re.compile(r"(\d+)")
_folders: Cache[list[Row]] = Cache(100_000)  # rows, about 30 MB


class Row(Struct, frozen=True, gc=False):
    """A child of a folder. `size` is in bytes; `files` is the number of files inside, None for a file or table.

    `source` is the name of the file that the node was built from. `index` identifies the row in its version.
    """

    index: int
    name: str
    kind: str
    size: int
    files: int | None
    source: str

    @property
    def is_folder(self) -> bool:
        return self.files is not None


class Folder(Struct, frozen=True):
    """A part of a folder's children. `total` is None if there are too many to count.

    `sort` is None if the rows are in the manifest's order. `next` is the cursor of the next part, None at the end.
    """

    rows: list[Row]
    total: int | None
    sort: SortKey | None
    next: int | None
    readme: ObjectPart | None


class Node(Struct, frozen=True):
    """A node of a version at a path. `walk` reads the manifest, whose digest is `manifest`."""

    path: list[str]
    place: Place
    walk: Walk
    manifest: bytes

    @property
    def group(self) -> GroupEntry:
        """The entry of a folder."""
        assert isinstance(self.place.entry, GroupEntry)
        return self.place.entry


class NodeNotFound(Exception):
    """There is no node at a path. `parent` is the longest path before it that leads to a node."""

    def __init__(self, parent: list[str]):
        super().__init__()
        self.parent = parent


class ObjectPart(Struct, frozen=True):
    """An object of the file or table at a path, with its size in bytes."""

    path: str
    digest: bytes
    size: int

    @property
    def sha256(self) -> str:
        return self.digest.hex()


async def get(db: Database, instance: Instance, path: list[str]) -> Node:
    """Return the node at a path of names. Raise NodeNotFound, or NotFound if the instance was just deleted."""
    digests, counts = await instances.read_index(db, instance.id)

    async def fetch(numbers: Sequence[int]) -> list[bytes]:
        found = await instances.read_bodies(db, [digests[number] for number in numbers])
        try:
            return [found[digests[number]] for number in numbers]
        except KeyError:
            raise access.instance_not_found() from None

    walk = Walk(counts, fetch)
    places = await walk.find(path)
    if len(places) <= len(path):
        raise NodeNotFound(path[: len(places) - 1])
    return Node(path, places[-1], walk, sha256(b"".join(digests)).digest())


# ------------------------------------------------------------------------------------------------ folders


async def list_folder(node: Node, sort: SortKey, cursor: int | None) -> Folder:
    """Return the children of a folder, at most ROWS_PER_PAGE, from a cursor on. A cursor of another folder is ignored.

    Up to MAX_SORTED children are sorted: folders first, then by name, or the largest first. Larger folders are read
    where the rows lie, because other orders would read all of it.
    """
    rows = await _all_rows(node)
    if rows is None:
        return await _list_unsorted(node, cursor)
    start = cursor if cursor is not None and 0 < cursor < len(rows) else 0
    stop = start + ROWS_PER_PAGE
    ordered = rows if sort == "name" else sorted(rows, key=_SORT_KEYS[sort])
    readme = None if start else await _find_readme(node)
    return Folder(ordered[start:stop], len(rows), sort, stop if stop < len(rows) else None, readme)


_SORT_KEYS = {
    "size": lambda row: -row.size,
    "kind": lambda row: (not row.is_folder, row.kind),
}


async def _all_rows(node: Node) -> list[Row] | None:
    """Return all children of a folder by name, or None if there are more than MAX_SORTED."""
    group = node.group
    if group.entries == group.files > MAX_SORTED:  # no folders inside
        return None
    key = node.manifest, node.place.index
    rows = _folders.get(key)
    if rows is None:
        rows = []
        async for place in node.walk.children(node.place):
            rows.append(_row(place))
            if len(rows) > MAX_SORTED:
                break
        rows.sort(key=lambda row: (not row.is_folder, natural_key(row.name)))
        _folders.put(key, rows, len(rows))
    return rows if len(rows) <= MAX_SORTED else None


async def _list_unsorted(node: Node, cursor: int | None) -> Folder:
    group = node.group
    start = cursor if cursor is not None and await node.walk.is_child(node.place, cursor) else 0
    rows: list[Row] = []
    next_index = None
    async for place in node.walk.children(node.place, start):
        if len(rows) == ROWS_PER_PAGE:
            next_index = place.index
            break
        rows.append(_row(place))
    total = group.entries if group.entries == group.files else None
    return Folder(rows, total, None, next_index, None if start else await _find_readme(node))


async def _find_readme(node: Node) -> ObjectPart | None:
    """Return the README of a folder."""
    path = [*node.path, README]
    places = await node.walk.find(path)
    entry = places[-1].entry
    if len(places) <= len(path) or type(entry) is not FileEntry or len(entry.sizes) != 1:
        return None
    return parts_of(path, entry)[0]


def _row(place: Place) -> Row:
    entry = place.entry
    if isinstance(entry, GroupEntry):
        return Row(place.index, entry.name, "folder", entry.size, entry.files, "")
    source = kinds.source_of(entry.metadata)
    kind = kinds.by_name(entry.name, source, is_table=isinstance(entry, TableEntry))
    return Row(place.index, entry.name, kind, sum(entry.sizes), None, source.name)


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers in names by their value: `a2` before `a10`."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _DIGITS.split(name.casefold())
    ]


async def find(db: Database, offload: Offload, instance: Instance, text: str) -> FoundPaths:
    """Return nodes whose paths contain a text, in any case, at most MAX_FOUND."""
    _, stored = await instances.read_pages(db, instance.id)
    return await offload.run(instance.entries, finding.find, stored.bodies, text, MAX_FOUND)


# ------------------------------------------------------------------------------------------------ objects


def parts_of(path: list[str], entry: FileEntry) -> list[ObjectPart]:
    """Return the objects of the file or table at a path, in order."""
    joined = "/".join(path)
    return [ObjectPart(joined, *each) for each in zip(split(entry.digests), entry.sizes, strict=True)]


async def read_part(services: Services, package: Package, part: ObjectPart, limit: int) -> bytes:
    """Return the first bytes of an object of a package. Raise Unavailable if it is missing or damaged."""
    await _check_state(services.db, package, part)
    data = await services.store.contents(final_key(package.owner, part.sha256), part.size, limit)
    if data is None:
        raise _lost(part, "missing from")
    return data


async def read_metadata(services: Services, package: Package, node: Node) -> Any:
    """Return the user metadata of a node, a JSON value; None if it has none, or if it cannot be read."""
    entry = node.place.entry
    if entry.meta is None or entry.meta_size > MAX_METADATA_BYTES:
        return None
    part = ObjectPart("/".join(node.path), entry.meta, entry.meta_size)
    try:
        return json.loads(await read_part(services, package, part, MAX_METADATA_BYTES))
    except (Unavailable, ValueError, RecursionError):
        return None


async def check_part(services: Services, package: Package, part: ObjectPart) -> str:
    """Return the key of an object that the store has. Raise Unavailable if it is missing or damaged."""
    await _check_state(services.db, package, part)
    key = final_key(package.owner, part.sha256)
    if not await services.store.sizes([key]):
        raise _lost(part, "missing from")
    return key


async def record_view(db: Database, caller: Caller, package: Package, instance: Instance, path: str) -> None:
    """Record that the caller looked at a file."""
    await audit.record(db, "PREVIEW", caller.name, package, instance.top_hash, subpath=path)


async def record_download(db: Database, caller: Caller, package: Package, instance: Instance, path: str) -> None:
    """Record that the caller downloaded a file from its page."""
    await audit.record(db, "INSTALL", caller.name, package, instance.top_hash, subpath=path, via="catalog")


async def _check_state(db: Database, package: Package, part: ObjectPart) -> None:
    state = await db.fetchval(
        "SELECT state FROM object WHERE owner_id = $1 AND digest = $2", package.owner_id, part.digest
    )
    if state == ObjectState.DAMAGED:
        raise _lost(part, "damaged in")


def _lost(part: ObjectPart, what: str) -> Unavailable:
    return Unavailable(
        f"The contents of {part.path} are {what} the object store. "
        "To repair them, push this package again from a computer that has the file."
    )
