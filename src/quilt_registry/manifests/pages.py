"""Stored form of a manifest: a sequence of entries, cut into pages that instances share.

A manifest has one entry for each node, in the order of the top hash: depth first, children by code point. The cuts
depend on the content, so that a change moves only the cuts beside it. A page is identified by the SHA-256 of its
msgpack. It is stored once, zstd-compressed, for all instances that share it. Equal digests mean equal entries, sizes
included, so a known page vouches for everything in it.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec
import zstandard
from msgspec import UNSET, Raw, Struct

from quilt.manifest import File, Group, Node, Root

MIN_ENTRIES, MAX_ENTRIES = 256, 4096  # of a page; only the last page may have fewer


class GroupEntry(Struct, array_like=True, tag=0, gc=False):
    """A ROOT (depth 0) or GROUP, with the totals of its subtree: entries, files and tables, bytes.

    `meta` is the digest of its metadata object.
    """

    name: str
    depth: int
    meta: bytes | None
    meta_size: int
    entries: int
    files: int
    size: int


class FileEntry(Struct, array_like=True, tag=1, gc=False):
    """A FILE: the digests of its objects (32 bytes each, joined), their sizes in bytes, and its metadata as JSON."""

    name: str
    depth: int
    meta: bytes | None
    meta_size: int
    digests: bytes
    sizes: tuple[int, ...]
    metadata: bytes


class TableEntry(FileEntry, array_like=True, tag=2, gc=False):
    """A TABLE of Parquet parts."""


Entry = GroupEntry | FileEntry | TableEntry


class GroupName(Struct, array_like=True, tag=0, gc=False):
    """The beginning of a GroupEntry, which is decoded faster."""

    name: str
    depth: int


class LeafName(Struct, array_like=True, tag=1, gc=False):
    """The beginning of a FileEntry."""

    name: str
    depth: int


class TableName(LeafName, array_like=True, tag=2, gc=False):
    """The beginning of a TableEntry."""


EntryName = GroupName | LeafName | TableName
Span = tuple[int, int]  # indexes of entries; the second is exclusive

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Entry]] = msgspec.msgpack.Decoder(list[Entry])
_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_raw_decoder: msgspec.msgpack.Decoder[list[Raw]] = msgspec.msgpack.Decoder(list[Raw])
_name_decoder: msgspec.msgpack.Decoder[list[EntryName]] = msgspec.msgpack.Decoder(list[EntryName])


class ObjectList(Struct, gc=False):
    """Objects with their sizes, packed so that a million of them take 40 MB between processes.

    Digests are joined, 32 bytes each. So are sizes, 8 bytes each, big-endian, because a query unpacks them.
    """

    digests: bytes = b""
    sizes: bytes = b""

    def __len__(self) -> int:
        return len(self.digests) // 32

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return zip(split(self.digests), _unpack_sizes(self.sizes), strict=True)

    def batches(self, count: int) -> Iterator[ObjectList]:
        """Yield the objects in lists of at most `count`."""
        for start in range(0, len(self), count):
            stop = start + count
            yield ObjectList(self.digests[start * 32 : stop * 32], self.sizes[start * 8 : stop * 8])


def pack_sizes(sizes: Iterable[int]) -> bytes:
    """Return sizes in the form of `ObjectList.sizes`."""
    numbers = array("q", sizes)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def _unpack_sizes(sizes: bytes) -> array[int]:
    numbers = array("q", sizes)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def split(digests: bytes) -> list[bytes]:
    """Return the digests of joined 32-byte digests."""
    return [digests[i : i + 32] for i in range(0, len(digests), 32)]


class Page(Struct, gc=False):
    """A page as it is stored: its digest, its number of entries, its compressed body."""

    digest: bytes
    entries: int
    body: bytes


class PageBodies(Struct, gc=False):
    """The bodies of a manifest's pages and their numbers of entries, in order."""

    bodies: list[bytes]
    counts: list[int]


# ------------------------------------------------------------------------------------ tree → entries → pages


def entries_of(root: Root, sizes: dict[str, int]) -> list[Entry]:
    """Return the entries of a checked tree. `sizes` has the size in bytes of each of its objects."""
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
            meta_digest, meta_size = meta(child) if child.metadata_hash is not UNSET else (None, 0)
            kind = FileEntry if type(child) is File else TableEntry
            add(kind(child_name, below, meta_digest, meta_size, digests, here, bytes(child.metadata)))
            files += 1
        entry.entries, entry.files, entry.size = len(entries) - start, files, size
        return entry

    group("", root, 0)
    group = None  # type: ignore[assignment]  # its reference to itself would keep the tree alive until a garbage collection
    return entries


def cut(entries: list[Entry]) -> list[list[Entry]]:
    """Return the entries of each page, about 1,280 on average, cut where the content says so."""
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
    # A leaf whose first digest begins with ten zero bits ends a page: one in 1,024 does.
    return type(entry) is not GroupEntry and entry.digests[:1] == b"\0" and entry.digests[1:2] < b"\x40"  # type: ignore[union-attr]


def pack(entries: list[Entry]) -> bytes:
    """Return entries as the bytes that identify their page."""
    return _encoder.encode(entries)


def digest(packed: bytes) -> bytes:
    """Return the digest of a page: before compression, so that it does not depend on the version of zstd."""
    return hashlib.sha256(packed).digest()


def compress(packed: bytes) -> bytes:
    """Return the body of a page."""
    return zstandard.compress(packed, 3)


def read(body: bytes) -> list[Entry]:
    """Return the entries of a page's body."""
    return _decoder.decode(zstandard.decompress(body))


def read_names(body: bytes) -> list[EntryName]:
    """Return the names and depths of a page's entries, in a third of the time that the entries take."""
    return _name_decoder.decode(zstandard.decompress(body))


def read_raw(body: bytes) -> list[Raw]:
    """Return the entries of a page's body, not decoded, for readers who need a few of them (`decode_entry`)."""
    return _raw_decoder.decode(zstandard.decompress(body))


def decode_entry(raw: Raw) -> Entry:
    """Return an entry of `read_raw`."""
    return _entry_decoder.decode(raw)


# ------------------------------------------------------------------------------------------------ objects


def objects_of(entries: list[Entry]) -> ObjectList:
    """Return the objects of entries, data and metadata, with duplicates."""
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


def distinct(lists: Sequence[ObjectList]) -> ObjectList:
    """Return the objects of all lists, each once."""
    sizes = dict(chain.from_iterable(lists))
    return ObjectList(b"".join(sizes), pack_sizes(sizes.values()))
