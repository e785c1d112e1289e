"""How a manifest is kept: as pages that versions share.

A manifest is the sequence of its nodes in the order of the top hash (depth first, children by code point), one entry
a node. The sequence is cut where the content says so, so that a change moves only the cuts beside it; a page is named
by the SHA-256 of its msgpack and stored once, zstd-compressed, however many instances share it. Equal names mean
equal entries, sizes included: a page that is known vouches for everything in it.

Everything here is pure and may run in a helper process (`offload.py`).
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from json.encoder import encode_basestring

import msgspec
import zstandard
from msgspec import UNSET, Raw, Struct, UnsetType

from quilt.manifest import GROUPS, Child, File, Group, Node, Root, Table

# A leaf whose first digest begins with ten zero bits ends a page: one in 1,024 does.
MIN_ENTRIES, MAX_ENTRIES = 256, 4096


class GroupEntry(Struct, array_like=True, tag=0, gc=False):
    """A ROOT (depth 0) or GROUP, with the totals of everything below it: entries, files and tables, bytes."""

    name: str
    depth: int
    meta: bytes | None
    meta_size: int
    entries: int
    files: int
    size: int


class FileEntry(Struct, array_like=True, tag=1, gc=False):
    """A FILE: its objects' digests (32 bytes each, joined) and their sizes in bytes; its metadata as JSON."""

    name: str
    depth: int
    meta: bytes | None
    meta_size: int
    digests: bytes
    sizes: tuple[int, ...]
    metadata: bytes


class TableEntry(FileEntry, array_like=True, tag=2, gc=False):
    """A TABLE (of Parquet parts)."""


Entry = GroupEntry | FileEntry | TableEntry
Span = tuple[int, int]  # entries from the first up to, not with, the second

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Entry]] = msgspec.msgpack.Decoder(list[Entry])


class Objects(Struct, gc=False):
    """Objects with their sizes, packed so that a million of them travel between processes in 40 MB.

    Digests are joined, 32 bytes each; so are the sizes, 8 bytes each, big-endian, as PostgreSQL takes them apart.
    """

    digests: bytes = b""
    sizes: bytes = b""

    def __len__(self) -> int:
        return len(self.digests) // 32

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return zip(split(self.digests), _unpack_sizes(self.sizes), strict=True)

    def batches(self, count: int) -> Iterator[Objects]:
        for start in range(0, len(self), count):
            stop = start + count
            yield Objects(self.digests[start * 32 : stop * 32], self.sizes[start * 8 : stop * 8])


def pack_sizes(sizes: Iterable[int]) -> bytes:
    """Sizes in bytes, joined."""
    numbers = array("q", sizes)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def _unpack_sizes(sizes: bytes) -> array[int]:
    numbers = array("q", sizes)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


class Page(Struct, gc=False):
    """A stored piece of a manifest."""

    name: bytes
    entries: int
    body: bytes


class Stored(Struct, gc=False):
    """The pages of a manifest, as they are stored: their bodies and numbers of entries, in order."""

    bodies: list[bytes]
    counts: list[int]


def split(digests: bytes) -> list[bytes]:
    """Joined 32-byte digests, apart."""
    return [digests[i : i + 32] for i in range(0, len(digests), 32)]


# ------------------------------------------------------------------------------------ tree → entries → pages


def entries_of(root: Root, sizes: dict[str, int]) -> list[Entry]:
    """The entries of a checked tree; `sizes` has every object that the tree names, in bytes."""
    entries: list[Entry] = []
    add, unhex = entries.append, bytes.fromhex

    def meta(node: Node) -> tuple[bytes | None, int]:
        if node.metadata_hash is UNSET:
            return None, 0
        return bytes.fromhex(node.metadata_hash), sizes[node.metadata_hash]

    def group(name: str, node: Root | Group, depth: int) -> GroupEntry:
        entry = GroupEntry(name, depth, *meta(node), 0, 0, 0)
        add(entry)
        start = len(entries)
        children = node.children
        files = size = 0
        below = depth + 1
        for child_name in sorted(children):
            child = children[child_name]
            if isinstance(child, Group):
                total = group(child_name, child, below)
                files += total.files
                size += total.size
                continue
            hashes = child.hashes
            if len(hashes) == 1:  # nearly always
                digests = unhex(hashes[0])
                here: tuple[int, ...] = (sizes[hashes[0]],)
                size += here[0]
            else:
                digests = unhex("".join(hashes))
                here = tuple(map(sizes.__getitem__, hashes))
                size += sum(here)
            digest, digest_size = meta(child) if child.metadata_hash is not UNSET else (None, 0)
            kind = FileEntry if type(child) is File else TableEntry
            add(kind(child_name, below, digest, digest_size, digests, here, bytes(child.metadata)))
            files += 1
        entry.entries, entry.files, entry.size = len(entries) - start, files, size
        return entry

    group("", root, 0)
    group = None  # type: ignore[assignment]  # it refers to itself, and would keep all it sees until a collection
    return entries


def cut(entries: list[Entry]) -> list[list[Entry]]:
    """The entries in pages of about 1,280, cut where the content says so."""
    pages = []
    start = 0
    for i, entry in enumerate(entries, 1):
        length = i - start
        if length >= MIN_ENTRIES and (length == MAX_ENTRIES or _ends_page(entry)):
            pages.append(entries[start:i])
            start = i
    if start < len(entries):
        pages.append(entries[start:])
    return pages


def _ends_page(entry: Entry) -> bool:
    return type(entry) is not GroupEntry and entry.digests[:1] == b"\0" and entry.digests[1:2] < b"\x40"  # type: ignore[union-attr]


def pack(entries: list[Entry]) -> bytes:
    """Entries as the bytes that name their page."""
    return _encoder.encode(entries)


def name(packed: bytes) -> bytes:
    """The name of a page: SHA-256 of its entries before compression, so that another zstd makes no other names."""
    return hashlib.sha256(packed).digest()


def compress(packed: bytes) -> bytes:
    """The body of a page, as it is stored."""
    return zstandard.compress(packed, 3)


def read(body: bytes) -> list[Entry]:
    """The entries of a page's body."""
    return _decoder.decode(zstandard.decompress(body))


def objects_of(entries: list[Entry]) -> Objects:
    """The objects that some entries name, data and metadata, repeats included."""
    digests: list[bytes] = []
    sizes: list[int] = []
    for entry in entries:
        if type(entry) is not GroupEntry:
            digests.append(entry.digests)  # type: ignore[union-attr]
            sizes.extend(entry.sizes)  # type: ignore[union-attr]
        if entry.meta is not None:
            digests.append(entry.meta)
            sizes.append(entry.meta_size)
    return Objects(b"".join(digests), pack_sizes(sizes))


def without(objects: Objects, digests: bytes) -> Objects:
    """The objects but for those with these digests (joined)."""
    if not digests:
        return objects
    left = dict(objects)
    for digest in split(digests):
        left.pop(digest, None)
    return Objects(b"".join(left), pack_sizes(left.values()))


def distinct(parts: Sequence[Objects]) -> Objects:
    """The objects of all parts, each once."""
    sizes = dict(chain.from_iterable(parts))
    return Objects(b"".join(sizes), pack_sizes(sizes.values()))


# ------------------------------------------------------------------------------------------------ pages → tree


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


def find(stored: Stored, path: Sequence[str]) -> Span:
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


def check_way(stored: Stored, path: Sequence[str], refuse: Callable[[str], Exception]) -> None:
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

    def __init__(self, stored: Stored):
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


class Rendered(Struct):
    """Some pages as a piece of the tree's JSON, and the objects they name within the span asked for."""

    json: bytes
    objects: Objects
    depth: int
    first: bool


def render(
    bodies: Sequence[bytes], depth: int = 0, first: bool = True, span: Span | None = None, meta_only: bool = False
) -> Rendered:
    """Some consecutive pages of a manifest as JSON text.

    `depth` and `first` tell how the text before them ended: how many groups are open, and whether the innermost is
    still empty; a Rendered carries them on. `close` ends the text. `span`, counted from the first entry given,
    limits the objects that are returned; so does `meta_only`.
    """
    parts: list[str] = []
    add = parts.append
    entries = list(chain.from_iterable(map(read, bodies)))
    quote = encode_basestring
    for entry in entries:
        below = entry.depth
        if below < depth:
            add("}}" * (depth - below))
            depth, first = below, False
        lead = "" if first else ","
        if below:
            lead += quote(entry.name) + ":"
        meta = f',"metadata_hash":"{entry.meta.hex()}"' if entry.meta else ""
        if type(entry) is GroupEntry:
            add(f'{lead}{{"type":"{"GROUP" if below else "ROOT"}"{meta},"children":{{')
            depth, first = below + 1, True
            continue
        digests = entry.digests  # type: ignore[union-attr]
        hashes = f'"{digests.hex()}"' if len(digests) == 32 else ",".join(f'"{d.hex()}"' for d in split(digests))
        kind = '"FILE"' if type(entry) is FileEntry else '"TABLE","format":"PARQUET"'
        add(f'{lead}{{"type":{kind},"hashes":[{hashes}]{meta},"metadata":{entry.metadata.decode()}}}')  # type: ignore[union-attr]
        first = False
    chosen = entries if span is None else entries[max(span[0], 0) : max(span[1], 0)]
    objects = _meta_objects(chosen) if meta_only else objects_of(chosen)
    return Rendered("".join(parts).encode(), objects, depth, first)


def _meta_objects(entries: list[Entry]) -> Objects:
    named = [entry for entry in entries if entry.meta is not None]
    return Objects(b"".join(entry.meta or b"" for entry in named), pack_sizes([e.meta_size for e in named]))


def close(depth: int) -> bytes:
    """What ends the JSON of a manifest whose last Rendered has this depth."""
    return b"}}" * depth


# ------------------------------------------------------------------------------------------------ comparison


def same_outside_metadata(ours: Sequence[bytes], theirs: Sequence[bytes]) -> bool:
    """Whether two manifests are the same tree but for `metadata`.

    One top hash can name two trees: nothing in it marks whose metadata hash it is.
    """

    def bare(bodies: Sequence[bytes]) -> Iterator[tuple[object, ...]]:
        for entry in chain.from_iterable(map(read, bodies)):
            yield type(entry), entry.name, entry.depth, entry.meta, getattr(entry, "digests", None)

    ours_left = bare(ours)
    return all(mine == next(ours_left, None) for mine in bare(theirs)) and next(ours_left, None) is None
