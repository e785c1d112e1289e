"""Rendering of stored pages as the JSON text of their tree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from json.encoder import encode_basestring

from msgspec import Struct

from quilt_registry.manifests.pages import (
    Entry,
    FileEntry,
    GroupEntry,
    ObjectList,
    Span,
    objects_of,
    pack_sizes,
    read,
    split,
)


class Rendered(Struct):
    """Consecutive pages as a piece of the tree's JSON, and their objects within the span.

    `depth` is the number of open groups at the end of the piece; `first` tells whether the innermost is still empty.
    """

    json: bytes
    objects: ObjectList
    depth: int
    first: bool


def render(
    bodies: Sequence[bytes], depth: int = 0, *, first: bool = True, span: Span | None = None, meta_only: bool = False
) -> Rendered:
    """Render consecutive pages of a manifest.

    `depth` and `first` are those of the piece before; after the last piece, `close` ends the text. `span` counts from
    the first entry of `bodies` and limits the objects that are returned; `meta_only` limits them to metadata objects.
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
    selected = entries if span is None else entries[max(span[0], 0) : max(span[1], 0)]
    objects = _meta_objects(selected) if meta_only else objects_of(selected)
    return Rendered("".join(parts).encode(), objects, depth, first)


def _meta_objects(entries: list[Entry]) -> ObjectList:
    with_meta = [entry for entry in entries if entry.meta is not None]
    return ObjectList(b"".join(entry.meta or b"" for entry in with_meta), pack_sizes(e.meta_size for e in with_meta))


def close(depth: int) -> bytes:
    """Return the end of the JSON text after a piece of this depth."""
    return b"}}" * depth
