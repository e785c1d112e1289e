"""The body of a push, parsed, checked, and converted to a manifest that can be stored."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from quilt import manifest
from quilt.manifest import Bounds, Checked, Child, File, Group, ManifestError, Node, Root
from quilt_registry import bodies
from quilt_registry.bodies import Packed
from quilt_registry.errors import Invalid, NotFound
from quilt_registry.manifests import pages, tree, words
from quilt_registry.manifests.pages import Entry, ObjectList, Page

MAX_SIZE = 2**63 - 1  # of an object, in bytes
README = "README"
MAX_INDEXED_METADATA = 100  # metadata objects of an instance
PREVIEW_NAMES, PREVIEW_LEVELS = 10, 4  # names on each level of a preview, levels
MAX_OBJECTS_PER_NODE = 4  # JSON objects on average: the node, its children or metadata, and two inside of these


class PushRequest(Struct, forbid_unknown_fields=True):  # protocol §9
    """The tree of a package or the node of a part, and the sizes of its objects, which may be empty in a dry run."""

    contents: Node
    description: str  # ignored
    sizes: dict[str, int]
    dry_run: bool = False
    is_public: bool | UnsetType = UNSET
    is_team: bool = False
    public: bool = False  # old name of is_public, used only if that is absent


class PushOptions(Struct):
    """The options of a push, and the objects of its tree or part.

    In a dry run their sizes are 0. For a whole package that is no dry run there are none: its manifest has them.
    """

    dry_run: bool
    is_public: bool
    is_team: bool
    objects: ObjectList


class Manifest(Struct):
    """A valid tree, cut into pages, with everything that is computed at a push.

    `pages` has the digests of all pages. Pages that the package does not have yet, and their objects, are fresh.
    `preview` and `file_types` are JSON, `readme` is a digest. For search, `names` has the words of node names, and
    `metadata` the joined digests of metadata objects.
    """

    top_hash: bytes
    pages: list[bytes]
    fresh_pages: list[Page]
    fresh_objects: ObjectList
    entries: int
    size: int
    preview: bytes
    file_types: bytes
    readme: bytes | None
    names: str
    metadata: bytes


class ParsedPush(Struct):
    """A parsed push: its options, and its manifest unless it is a dry run."""

    options: PushOptions
    manifest: Manifest | None = None


_decoder = msgspec.json.Decoder(PushRequest)


def parse_whole(packed: Packed, bounds: Bounds, top_hash: str, known: frozenset[bytes]) -> ParsedPush:
    """Parse the push of a whole package. Raise Invalid.

    `top_hash` is that of the URL. `known` are the digests of pages that the package has: their objects were verified.
    """
    request = _decode(packed, bounds)
    if not isinstance(request.contents, Root):
        raise Invalid("Unexpected node type")
    checked = _check(request.contents, bounds)
    computed = manifest.top_hash(request.contents)
    if computed != top_hash:
        raise Invalid(f"Wrong contents hash: the contents have the top hash {computed}.")
    if request.dry_run:
        return ParsedPush(_options(request, checked.objects))
    _check_sizes(request.sizes, checked.objects)
    # The manifest has the objects. The options omit them, because sending them twice between processes takes time.
    return ParsedPush(_options(request, set()), _build(request.contents, checked, computed, request.sizes, known))


def parse_part(packed: Packed, bounds: Bounds, path: list[str]) -> PushOptions:
    """Parse the push of a part to a path. Raise Invalid, also for a path that no tree can have."""
    request = _decode(packed, bounds)
    if isinstance(request.contents, Root):
        raise Invalid("Unexpected node type")
    root = Root({})
    manifest.graft(root, path, request.contents, not_a_group)
    checked = _check(root, bounds)
    if not request.dry_run:
        _check_sizes(request.sizes, checked.objects)
    return _options(request, checked.objects)


def merge(packed: Packed, bounds: Bounds, base: list[bytes], path: list[str], known: frozenset[bytes]) -> Manifest:
    """Merge the part of a push into the tree of the `base` page bodies, at a path.

    Raise NotFound if the path leads through a FILE or TABLE, Invalid if the merged tree exceeds the bounds.
    """
    request = _decode(packed, bounds)
    assert isinstance(request.contents, Child)
    root, base_sizes = tree.rebuild(base)
    manifest.graft(root, path, request.contents, not_a_group)
    checked = _check(root, bounds, stored=True)  # `parse_part` has checked the names and metadata that are new
    sizes = {sha256: (request.sizes if sha256 in request.sizes else base_sizes)[sha256] for sha256 in checked.objects}
    return _build(root, checked, manifest.top_hash(root), sizes, known)


def not_a_group(name: str) -> NotFound:
    """Return the error for a path that leads through a FILE or TABLE."""
    return NotFound(f"Target subpath is not a group node: {name!r}")


def _decode(packed: Packed, bounds: Bounds) -> PushRequest:
    return bodies.decode(packed, _decoder, MAX_OBJECTS_PER_NODE * bounds.nodes)


def _check(node: Node, bounds: Bounds, *, stored: bool = False) -> Checked:
    try:
        return manifest.check(node, bounds, stored=stored)
    except ManifestError as error:
        raise Invalid(str(error)) from None


def _options(request: PushRequest, objects: set[str]) -> PushOptions:
    public = request.public if request.is_public is UNSET else request.is_public
    sizes = pages.pack_sizes(0 if request.dry_run else request.sizes[sha256] for sha256 in objects)
    return PushOptions(request.dry_run, public, request.is_team, ObjectList(bytes.fromhex("".join(objects)), sizes))


def _check_sizes(sizes: dict[str, int], objects: set[str]) -> None:
    if sizes.keys() != objects:
        missing, extra = objects - sizes.keys(), sizes.keys() - objects
        reason = f"no size for {min(missing)}" if missing else f"{min(extra)!r:.80} is not in the contents"
        raise Invalid(f"Sizes don't match the hashes: {reason}")
    if sizes and (min(sizes.values()) < 0 or max(sizes.values()) > MAX_SIZE):
        wrong = next(sha256 for sha256, size in sizes.items() if not 0 <= size <= MAX_SIZE)
        raise Invalid(f"The size of {wrong} is not between 0 and {MAX_SIZE}.")


def _build(root: Root, checked: Checked, top_hash: str, sizes: dict[str, int], known: frozenset[bytes]) -> Manifest:
    readme, preview = _readme_digest(root), msgspec.json.encode(_preview(root, PREVIEW_LEVELS))
    entries = pages.entries_of(root, sizes)
    metadata, parts = _metadata_digests(entries), pages.cut(entries)
    root.children.clear()  # to free the memory of a million nodes; that of their entries is freed page by page
    del entries
    count = sum(map(len, parts))
    digests, fresh, objects = [], [], []
    while parts:
        entries = parts.pop(0)
        packed = pages.pack(entries)
        digest = pages.digest(packed)
        digests.append(digest)
        if digest not in known:
            fresh.append(Page(digest, len(entries), pages.compress(packed)))
            objects.append(pages.objects_of(entries))
    return Manifest(
        top_hash=bytes.fromhex(top_hash),
        pages=digests,
        fresh_pages=fresh,
        fresh_objects=pages.distinct(objects),
        entries=count,
        size=min(sum(sizes.values()), MAX_SIZE),
        preview=preview,
        file_types=msgspec.json.encode(_file_types(checked)),
        readme=readme,
        names=words.distinct_in_names(checked.groups, checked.names, words.MAX_TEXT_BYTES),
        metadata=metadata,
    )


def _readme_digest(root: Root) -> bytes | None:
    node = root.children.get(README)
    if not isinstance(node, File):
        return None
    if len(node.hashes) != 1:
        raise Invalid(f"{README} must have exactly one object, not {len(node.hashes)}.")
    return bytes.fromhex(node.hashes[0])


def _metadata_digests(entries: list[Entry]) -> bytes:
    """Return the joined digests of the first distinct metadata objects, in the order of the tree."""
    found: dict[bytes, None] = {}
    for digest in (entry.meta for entry in entries if entry.meta):
        found[digest] = None
        if len(found) == MAX_INDEXED_METADATA:
            break
    return b"".join(found)


def _preview(node: Root | Group, levels: int) -> list[list[Any]]:
    """Return the first names of a tree as rows `[name, rows below or null]`; `...` stands for further names."""
    rows: list[list[Any]] = []
    for name in sorted(node.children)[:PREVIEW_NAMES]:
        child = node.children[name]
        if not isinstance(child, Group):
            rows.append([name, None])
        elif levels > 1:
            rows.append([name, _preview(child, levels - 1)])
        else:
            rows.append([name, [["...", None]] if child.children else []])
    if len(node.children) > PREVIEW_NAMES:
        rows.append(["...", None])
    return rows


def _file_types(checked: Checked) -> dict[str, int]:
    """Return the number of leaves by the lower-case extension of their source path, "" for none."""
    exact = Counter(map(_extension, checked.sources))
    exact[""] += checked.leaves - len(checked.sources)
    counts: Counter[str] = Counter()
    for extension, count in exact.items():
        counts[extension.lower()] += count
    return {extension: count for extension, count in counts.items() if count}


def _extension(path: str) -> str:
    """Return the extension with its dot. A dot at either end of the file's name begins none; both slashes separate."""
    dot = path.rfind(".")
    extension = path[dot:]
    if dot <= 0 or len(extension) == 1 or path[dot - 1] in "/\\" or "/" in extension or "\\" in extension:
        return ""
    return extension
