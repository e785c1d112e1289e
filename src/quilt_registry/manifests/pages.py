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
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec
import zstandard
from msgspec import UNSET, Struct

from quilt.manifest import File, Group, Node, Root

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


class ObjectList(Struct, gc=False):
    """Objects with their sizes, packed so that a million of them travel between processes in 40 MB.

    Digests are joined, 32 bytes each; so are the sizes, 8 bytes each, big-endian, as PostgreSQL takes them apart.
    """

    digests: bytes = b""
    sizes: bytes = b""

    def __len__(self) -> int:
        return len(self.digests) // 32

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return zip(split(self.digests), _unpack_sizes(self.sizes), strict=True)

    def batches(self, count: int) -> Iterator[ObjectList]:
        for start in range(0, len(self), count):
            stop = start + count
            yield ObjectList(self.digests[start * 32 : stop * 32], self.sizes[start * 8 : stop * 8])


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


class PageBodies(Struct, gc=False):
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


def objects_of(entries: list[Entry]) -> ObjectList:
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
    return ObjectList(b"".join(digests), pack_sizes(sizes))


def without(objects: ObjectList, digests: bytes) -> ObjectList:
    """The objects but for those with these digests (joined)."""
    if not digests:
        return objects
    left = dict(objects)
    for digest in split(digests):
        left.pop(digest, None)
    return ObjectList(b"".join(left), pack_sizes(left.values()))


def distinct(parts: Sequence[ObjectList]) -> ObjectList:
    """The objects of all parts, each once."""
    sizes = dict(chain.from_iterable(parts))
    return ObjectList(b"".join(sizes), pack_sizes(sizes.values()))


# ------------------------------------------------------------------------------------------------ pages → tree


# ------------------------------------------------------------------------------------------------ comparison
