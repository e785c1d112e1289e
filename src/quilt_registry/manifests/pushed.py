"""From the body of a push to a manifest ready to be stored. Pure; runs in helper processes for all but small trees."""

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

LARGEST_SIZE = 2**63 - 1
README = "README"
SEARCHED = 100_000  # bytes of the words in node names, in a README, and in metadata, that search looks at
SEARCHED_METADATA = 100  # objects with user metadata that search looks at

# What the preview shows of a tree: names on a level, levels.
PREVIEW_NAMES, PREVIEW_LEVELS = 10, 4


class PushRequest(Struct, forbid_unknown_fields=True):
    """What a push sends (protocol §9)."""

    contents: Node
    description: str
    sizes: dict[str, int]
    dry_run: bool = False
    is_public: bool | UnsetType = UNSET
    is_team: bool = False
    public: bool = False  # old name of is_public, used only if that is absent


class PushOptions(Struct):
    """What a push asks for, and the objects of the tree or part that it sends, sizes 0 where none were sent."""

    dry_run: bool
    is_public: bool
    is_team: bool
    objects: ObjectList


class Manifest(Struct):
    """A tree, checked against everything but the database and the store, and cut into pages."""

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


_body = msgspec.json.Decoder(PushRequest)


class ParsedPush(Struct):
    """A push body, read: what it asks for, and its manifest unless it is a dry run or a part."""

    options: PushOptions
    manifest: Manifest | None = None


def parse_whole(packed: Packed, bounds: Bounds, top_hash: str, known: frozenset[bytes]) -> ParsedPush:
    """Read the push of a whole package.

    `top_hash` is the one in the path; `known` are the names of the pages that the package has, which need no second
    look. Raises Invalid.
    """
    body, checked = _decode(packed, bounds)
    if not isinstance(body.contents, Root):
        raise Invalid("Unexpected node type")
    found = manifest.top_hash(body.contents)
    if found != top_hash:
        raise Invalid(f"Wrong contents hash: the contents have the top hash {found}.")
    if body.dry_run:
        return ParsedPush(_options(body, checked.objects))
    _check_sizes(body.sizes, checked.objects)
    # The objects are those of the manifest: sending them twice between processes would cost more than it tells.
    return ParsedPush(_options(body, set()), _manifest(body.contents, checked, found, body.sizes, known))


def parse_part(packed: Packed, bounds: Bounds, path: list[str]) -> PushOptions:
    """Read the push of a part that goes to a path. Raises Invalid, also for a path that no tree can have."""
    body = bodies.decode(packed, _body)
    if isinstance(body.contents, Root):
        raise Invalid("Unexpected node type")
    alone = Root({})
    manifest.graft(alone, path, body.contents, not_a_group)
    checked = _check(alone, bounds)
    if not body.dry_run:
        _check_sizes(body.sizes, checked.objects)
    return _options(body, checked.objects)


def merge(packed: Packed, bounds: Bounds, base: list[bytes], path: list[str], known: frozenset[bytes]) -> Manifest:
    """Put the part that a push sends at a path into the tree that some page bodies hold.

    Raises NotFound if a FILE or TABLE stands in the way, Invalid if the whole breaks the bounds.
    """
    body, _ = _decode(packed, bounds)
    assert isinstance(body.contents, Child)
    root, sizes = tree.tree_of(base)
    manifest.graft(root, path, body.contents, not_a_group)
    checked = _check(root, bounds)
    sizes = {name: body.sizes[name] if name in body.sizes else sizes[name] for name in checked.objects}
    return _manifest(root, checked, manifest.top_hash(root), sizes, known)


def not_a_group(name: str) -> NotFound:
    """The refusal for a path that leads through a leaf."""
    return NotFound(f"Target subpath is not a group node: {name!r}")


def _decode(packed: Packed, bounds: Bounds) -> tuple[PushRequest, Checked]:
    body = bodies.decode(packed, _body)
    return body, _check(body.contents, bounds)


def _check(node: Node, bounds: Bounds) -> Checked:
    try:
        return manifest.check(node, bounds)
    except ManifestError as error:
        raise Invalid(str(error)) from None


def _options(body: PushRequest, names: set[str]) -> PushOptions:
    public = body.public if body.is_public is UNSET else body.is_public
    sizes = pages.pack_sizes(0 if body.dry_run else body.sizes[name] for name in names)
    return PushOptions(body.dry_run, public, body.is_team, ObjectList(bytes.fromhex("".join(names)), sizes))


def _check_sizes(sizes: dict[str, int], names: set[str]) -> None:
    if sizes.keys() != names:
        lacking, more = names - sizes.keys(), sizes.keys() - names
        which = f"no size for {min(lacking)}" if lacking else f"{min(more)!r:.80} is not in the contents"
        raise Invalid(f"Sizes don't match the hashes: {which}")
    if sizes and (min(sizes.values()) < 0 or max(sizes.values()) > LARGEST_SIZE):
        wrong = next(name for name, size in sizes.items() if not 0 <= size <= LARGEST_SIZE)
        raise Invalid(f"The size of {wrong} is not between 0 and {LARGEST_SIZE}.")


def _manifest(root: Root, checked: Checked, top_hash: str, sizes: dict[str, int], known: frozenset[bytes]) -> Manifest:
    readme, shown = _readme(root), msgspec.json.encode(preview(root, PREVIEW_LEVELS))
    entries = pages.entries_of(root, sizes)
    metadata, cut = _metadata(entries), pages.cut(entries)
    root.children.clear()  # a million nodes need the room; so do their entries, let go page by page
    del entries
    total = sum(map(len, cut))
    names, fresh, objects = [], [], []
    while cut:
        entries = cut.pop(0)
        data = pages.pack(entries)
        name = pages.name(data)
        names.append(name)
        if name not in known:
            fresh.append(Page(name, len(entries), pages.compress(data)))
            objects.append(pages.objects_of(entries))
    return Manifest(
        top_hash=bytes.fromhex(top_hash),
        pages=names,
        fresh_pages=fresh,
        fresh_objects=pages.distinct(objects),
        entries=total,
        size=min(sum(sizes.values()), LARGEST_SIZE),
        preview=shown,
        file_types=msgspec.json.encode(file_types(checked)),
        readme=readme,
        names=words.of_nodes(checked.groups, checked.names, SEARCHED),
        metadata=metadata,
    )


def _metadata(entries: list[Entry]) -> bytes:
    """The first distinct objects with user metadata, in the order of the tree: their digests, joined."""
    found: dict[bytes, None] = {}
    for digest in (entry.meta for entry in entries if entry.meta):
        found[digest] = None
        if len(found) == SEARCHED_METADATA:
            break
    return b"".join(found)


def _readme(root: Root) -> bytes | None:
    node = root.children.get(README)
    if not isinstance(node, File):
        return None
    if len(node.hashes) != 1:
        raise Invalid(f"{README} must have exactly one object, not {len(node.hashes)}.")
    return bytes.fromhex(node.hashes[0])


def preview(node: Root | Group, levels: int) -> list[list[Any]]:
    """The first names of a tree, `levels` deep, as `[name, below or null]`; `...` stands for what is left out."""
    rows: list[list[Any]] = []
    for name in sorted(node.children)[:PREVIEW_NAMES]:
        child = node.children[name]
        if not isinstance(child, Group):
            rows.append([name, None])
        elif levels > 1:
            rows.append([name, preview(child, levels - 1)])
        else:
            rows.append([name, [["...", None]] if child.children else []])
    if len(node.children) > PREVIEW_NAMES:
        rows.append(["...", None])
    return rows


def file_types(checked: Checked) -> dict[str, int]:
    """How many FILE and TABLE nodes there are of each lower-case extension of their source path, "" for none."""
    exact = Counter(map(_extension, checked.sources))
    exact[""] += checked.leaves - len(checked.sources)
    counts: Counter[str] = Counter()
    for extension, count in exact.items():
        counts[extension.lower()] += count
    return {extension: count for extension, count in counts.items() if count}


def _extension(path: Any) -> str:
    """From the last dot on, unless it begins or ends the file's name; both slashes separate."""
    if not isinstance(path, str):
        return ""
    dot = path.rfind(".")
    extension = path[dot:]
    if dot <= 0 or len(extension) == 1 or path[dot - 1] in "/\\" or "/" in extension or "\\" in extension:
        return ""
    return extension
