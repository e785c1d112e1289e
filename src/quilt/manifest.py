"""A package's tree of contents: read it, check it, walk it, hash it.

A tree has four kinds of nodes. ROOT stands at the top of a whole package and nowhere else, GROUP is a folder,
FILE names one object, TABLE names the parts of a table. Objects are named by the SHA-256 of their bytes, as 64
lower-case hex digits. The format and the hash are those of the Quilt 2 protocol and can never change: the hash
names what people have pinned.

Everything here is pure: no files, no network, no settings.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

NO_METADATA = Raw(b"{}")

MOST_NAMES = 20_000  # that a check collects

_FORBIDDEN = re.compile(r"[/\0\ud800-\udfff]")
_HEX = re.compile(r"[0-9a-f]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ManifestError(ValueError):
    """A tree that breaks the rules. The message is one sentence for people and names the place."""


class Bounds(Struct, frozen=True):
    """How large a tree may be: groups below each other, nodes in all, characters in a name."""

    depth: int = 72
    nodes: int = 5_000_000
    name: int = 255


DEFAULT_BOUNDS = Bounds()


class File(Struct, tag_field="type", tag="FILE", forbid_unknown_fields=True, gc=False):
    """Some bytes. Usually one object; older clients wrote several fragments."""

    hashes: list[str]
    metadata: Raw = NO_METADATA
    metadata_hash: str | UnsetType = UNSET


class Table(Struct, tag_field="type", tag="TABLE", forbid_unknown_fields=True, gc=False):
    """A table in Parquet parts, in order; repeats and an empty list are legal."""

    hashes: list[str]
    format: Literal["PARQUET"]
    metadata: Raw = NO_METADATA
    metadata_hash: str | UnsetType = UNSET


class Group(Struct, tag_field="type", tag="GROUP", forbid_unknown_fields=True):
    """A folder: node name to node."""

    children: dict[str, Group | File | Table]
    metadata_hash: str | UnsetType = UNSET


class Root(Struct, tag_field="type", tag="ROOT", forbid_unknown_fields=True):
    """The top of a whole package."""

    children: dict[str, Group | File | Table]
    metadata_hash: str | UnsetType = UNSET


Child = Group | File | Table
Node = Root | Group | File | Table
GROUPS = (Root, Group)

_decoder: msgspec.json.Decoder[Node] = msgspec.json.Decoder(Node)


def decode(data: bytes) -> Node:
    """Read a tree from JSON. Raises ManifestError if it is not one; `check` does the rest."""
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look into texts that it passes over
        return _decoder.decode(data)
    except RecursionError:
        raise ManifestError("The tree is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestError(f"The contents are not a valid tree: {error}.") from None


def encode(node: Node) -> bytes:
    """A tree as compact JSON; `metadata` goes out byte for byte as it came in."""
    return msgspec.json.encode(node)


class Checked(Struct):
    """What a check found on its way: every object named, node names, the number of leaves, and their source paths.

    `names` are distinct; after some MOST_NAMES of them, as many more without their digits, so that a million names
    with numbers in them hide no others. `groups` are those of groups, at most MOST_NAMES. `sources` has the `q_path` of
    each leaf that has metadata, whatever its type; None where there is none.
    """

    objects: set[str]
    names: set[str]
    groups: set[str]
    leaves: int
    sources: list[Any]


def check(node: Node, bounds: Bounds = DEFAULT_BOUNDS) -> Checked:
    """Hold a tree against the rules that its types cannot express.

    Raises ManifestError naming the first place that breaks one: names that are empty or hold `/`, NUL or half a
    surrogate pair; object names that are not 64 lower-case hex digits; `metadata` that is no JSON object or has a
    key `type` at any depth (old clients would take that object for a node); the bounds.
    """
    count, leaves = 1, 0
    names: set[str] = set()
    groups: set[str] = set()
    without_digits: set[bytes] = set()
    hashes: list[str] = []
    metadata: list[Raw] = []

    def leaf(node: File | Table) -> None:
        nonlocal leaves
        leaves += 1
        hashes.extend(node.hashes)
        if node.metadata is not NO_METADATA:
            metadata.append(node.metadata)

    def group(node: Root | Group, path: Path, depth: int) -> None:
        nonlocal count
        children = node.children
        count += len(children)
        if count > bounds.nodes:
            raise ManifestError(f"The tree has more than {bounds.nodes:,} nodes, the most this registry takes.")
        _check_names(children, path, bounds)
        if len(names) < MOST_NAMES:
            names.update(children)
        elif len(without_digits) < MOST_NAMES:
            without_digits.update("/".join(children).encode().translate(None, b"0123456789").split(b"/"))
        for name, child in children.items():
            if child.metadata_hash is not UNSET:
                hashes.append(child.metadata_hash)
            if type(child) is not Group:
                leaf(child)  # type: ignore[arg-type]
            elif depth < bounds.depth:
                if len(groups) < MOST_NAMES:
                    groups.add(name)
                group(child, (path, name), depth + 1)
            else:
                raise ManifestError(f"Groups are nested more than {bounds.depth} deep at {_text((path, name))}.")

    if node.metadata_hash is not UNSET:
        hashes.append(node.metadata_hash)
    if isinstance(node, GROUPS):
        group(node, None, 0)
    else:
        leaf(node)
    group = None  # type: ignore[assignment]  # it refers to itself, and would keep all it sees until a collection
    try:
        sources = _sources(node, metadata)
    except RecursionError:
        raise ManifestError("Metadata is nested too deeply.") from None
    # One look at all object names joined is several times as fast as one each.
    if set(map(len, hashes)) - {64} or not _HEX.fullmatch("".join(hashes)):
        wrong = next(name for name in hashes if not is_object_name(name))
        raise ManifestError(f"{_short(wrong)} is not an object name: 64 lower-case hex digits are.")
    names.update(name.decode() for name in without_digits)
    return Checked(set(hashes), names, groups, leaves, sources)


def is_object_name(text: str) -> bool:
    """Whether a text is the name of an object, or a top hash: exactly 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


# The way from the top down to a node, kept as nested pairs so that the walk builds no text it does not need.
Path = tuple["Path", str] | None


def _text(path: Path) -> str:
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(name)
    return _short("/".join(reversed(names))) if names else "the top"


def _short(text: str) -> str:
    """A value from outside, quoted and cut, so that no message repeats a whole body."""
    return repr(text if len(text) <= 100 else text[:97] + "...")


def _check_names(names: Collection[str], path: Path, bounds: Bounds) -> None:
    if not names or ("" not in names and max(map(len, names)) <= bounds.name and not _FORBIDDEN.search("".join(names))):
        return
    where = f"in {_text(path)}" if path else "at the top"
    if "" in names:
        raise ManifestError(f"A node {where} has an empty name.")
    for name in names:
        if len(name) > bounds.name:
            raise ManifestError(f"The node name {_short(name)} {where} is longer than {bounds.name} characters.")
        if _FORBIDDEN.search(name):
            raise ManifestError(
                f"The node name {_short(name)} {where} holds a character that is not allowed: "
                "'/', NUL or half a surrogate pair."
            )


class _Metadata(Struct, gc=False):
    """Any JSON object; of what old clients put there, only the source path is looked at."""

    q_path: Any = None


_metadata = msgspec.json.Decoder(list[_Metadata])


def _sources(node: Node, metadata: list[Raw]) -> list[Any]:
    """The source paths in all metadata of a tree, held against the rules. Raises ManifestError, RecursionError."""
    # One look at all metadata joined is several times as fast as one each.
    joined = b"[" + b",".join(metadata) + b"]"
    try:
        sources = [each.q_path for each in _metadata.decode(joined)]
        suspicious = b'"type"' in joined or b"\\u" in joined  # nothing else can hold or spell that key
    except msgspec.ValidationError:
        sources, suspicious = [], True
    if suspicious:
        _check_metadata(node, None)
    return sources


def _check_metadata(node: Node, path: Path) -> None:
    """Look at each node's metadata by itself, and raise ManifestError for the first that is wrong."""
    if isinstance(node, GROUPS):
        for name, child in node.children.items():
            _check_metadata(child, (path, name))
        return
    try:
        value = json.loads(bytes(node.metadata), object_pairs_hook=_without_type, parse_int=str)
    except _TypeKey:
        raise ManifestError(
            f"The metadata of {_text(path)} has a key 'type'; no object inside metadata may have one."
        ) from None
    if not isinstance(value, dict):
        raise ManifestError(f"The metadata of {_text(path)} is not a JSON object.")


class _TypeKey(Exception):
    pass


def _without_type(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Look at every pair: of equal keys a decoder keeps the last, but old clients meet each object on the way."""
    if any(name == "type" for name, _ in pairs):
        raise _TypeKey
    return dict(pairs)


def top_hash(node: Node) -> str:
    """The name of a tree: SHA-256, as 64 hex digits, over its canonical walk (protocol §7).

    Children go by the code points of their names. Lengths count code points, not bytes. `metadata` and `format` do
    not count. The tree must have passed `check`.
    """
    digest = hashlib.sha256()
    parts: list[str] = []
    add = parts.append

    def flush() -> None:
        digest.update("".join(parts).encode("utf-8", "surrogateescape"))
        parts.clear()

    def leaf(node: File | Table) -> None:
        kind = _FILE if type(node) is File else _TABLE
        if len(node.hashes) == 1:  # nearly always
            add(kind + _ONE_NAME + node.hashes[0])
        else:
            add(kind + _integer(len(node.hashes)) + "".join(_NAME + name for name in node.hashes))

    def group(node: Root | Group) -> None:
        children = node.children
        add((_ROOT if type(node) is Root else _GROUP) + _integer(len(children)))
        for name in sorted(children):
            child = children[name]
            add(_integer(len(name)) + name)
            if type(child) is Group:
                group(child)
            else:
                leaf(child)  # type: ignore[arg-type]
            if child.metadata_hash is not UNSET:
                add(_NAME + child.metadata_hash)
        flush()

    if isinstance(node, GROUPS):
        group(node)
    else:
        leaf(node)
    if node.metadata_hash is not UNSET:
        add(_NAME + node.metadata_hash)
    group = None  # type: ignore[assignment]  # as in check
    flush()
    return digest.hexdigest()


# The walk is built as text and encoded in one go. Bytes above 127 that are not UTF-8 (they occur in lengths) travel
# as the lone surrogates of Python's `surrogateescape`, which no checked name can hold.
_INTEGERS = [n.to_bytes(4, "big").decode("utf-8", "surrogateescape") for n in range(1024)]


def _integer(number: int) -> str:
    if number < 1024:
        return _INTEGERS[number]
    return number.to_bytes(4, "big").decode("utf-8", "surrogateescape")


_NAME = _INTEGERS[64]
_ONE_NAME = _INTEGERS[1] + _NAME
_ROOT, _GROUP, _FILE, _TABLE = (_INTEGERS[len(kind)] + kind for kind in ("ROOT", "GROUP", "FILE", "TABLE"))


def subtree(node: Node, path: list[str], refuse: Callable[[str], Exception]) -> Node:
    """The node at a path of names; raises `refuse(name)` with the first name that leads nowhere."""
    for name in path:
        child = node.children.get(name) if isinstance(node, GROUPS) else None
        if child is None:
            raise refuse(name)
        node = child
    return node


def graft(root: Root, path: list[str], part: Child, refuse: Callable[[str], Exception]) -> None:
    """Put a node at a path (at least one name), making missing groups on the way and replacing what is there.

    Raises `refuse(name)` if a FILE or TABLE stands in the way.
    """
    node: Root | Group = root
    for name in path[:-1]:
        child = node.children.setdefault(name, Group({}))
        if not isinstance(child, Group):
            raise refuse(name)
        node = child
    node.children[path[-1]] = part
