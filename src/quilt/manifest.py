"""Manifests: the tree of a package's contents, its rules, and its top hash.

A tree has four kinds of nodes. ROOT is the top of a whole package and occurs nowhere else, GROUP is a folder, FILE
refers to one object, TABLE to the parts of a table. An object is identified by the SHA-256 of its bytes, written as 64
lower-case hex digits. The format and the top hash are those of the Quilt 2 protocol and can never change, because users
have pinned top hashes.

All functions are pure: no files, no network, no settings.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

NO_METADATA = Raw(b"{}")

MAX_CHECKED_NAMES = 20_000

_RESERVED_NAMES = ("", ".", "..")
_FORBIDDEN = re.compile(r"[/\0\ud800-\udfff]")
_HEX = re.compile(r"[0-9a-f]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestError(ValueError):
    """A violation of the rules for trees. The message is a sentence for users and names the place."""


class Bounds(Struct, frozen=True):
    """Limits of a tree: nested groups, nodes in total, characters of a node name, bytes of a node's metadata."""

    depth: int = 72
    nodes: int = 5_000_000
    name: int = 255
    metadata: int = 65_536


DEFAULT_BOUNDS = Bounds()


def _optional_metadata() -> Any:
    # A plain default of type Raw would keep msgspec from making a JSON schema, which OpenAPI needs.
    return field(default_factory=lambda: NO_METADATA)


class File(Struct, tag_field="type", tag="FILE", forbid_unknown_fields=True, gc=False):
    """A file, usually of one object; older clients wrote several fragments. `metadata` is a JSON object."""

    hashes: list[str]
    metadata: Raw = _optional_metadata()
    metadata_hash: str | UnsetType = UNSET


class Table(Struct, tag_field="type", tag="TABLE", forbid_unknown_fields=True, gc=False):
    """A table of Parquet parts, in order; duplicate parts and an empty list are valid. `metadata` is a JSON object."""

    hashes: list[str]
    format: Literal["PARQUET"]
    metadata: Raw = _optional_metadata()
    metadata_hash: str | UnsetType = UNSET


class Group(Struct, tag_field="type", tag="GROUP", forbid_unknown_fields=True):
    """A folder: its nodes by name."""

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
    """Return the tree that JSON describes. Raise ManifestError for anything else; `check` covers the other rules."""
    try:
        if not data.isascii():
            data.decode()  # because msgspec does not validate the UTF-8 of strings that it skips
        return _decoder.decode(data)
    except RecursionError:
        raise ManifestError("The tree is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestError(f"The contents are not a valid tree: {error}.") from None


def encode(node: Node) -> bytes:
    """Return a tree as compact JSON. `metadata` is written byte for byte as it was read."""
    return msgspec.json.encode(node)


class Checked(Struct):
    """Facts about a valid tree: its objects, distinct node names, the number of leaves, and their source paths.

    `names` has about MAX_CHECKED_NAMES names, then as many more without their digits, so that a million numbered names
    hide no others. `groups` has the names of groups, at most MAX_CHECKED_NAMES. `sources` has each `q_path` in metadata
    that is a text.
    """

    objects: set[str]
    names: set[str]
    groups: set[str]
    leaves: int
    sources: list[str]


def check(node: Node, bounds: Bounds = DEFAULT_BOUNDS, *, stored: bool = False) -> Checked:
    """Check the rules that the types cannot express.

    Raise ManifestError, which names the first place, for: node names that `find_bad_name` finds; hashes that are not 64
    lower-case hex digits; `metadata` that is not a JSON object, has a key `type` at any depth (released clients would
    take that object for a node), or a number that not every JSON reader can read; a tree beyond the bounds. Metadata
    stays text.

    With `stored`, names and metadata are not checked: those of older trees may break rules that are newer.
    """
    found = _Collector(bounds, stored=stored)
    found.add_top(node)
    try:
        sources = _sources(node, found.metadata, bounds, stored=stored)
    except RecursionError:
        raise ManifestError("Metadata is nested too deeply.") from None
    _check_hashes(found.hashes)
    return Checked(set(found.hashes), found.all_names(), found.groups, found.leaves, sources)


class _Collector:
    """What `check` collects in its walk over the nodes, and the rules for groups."""

    def __init__(self, bounds: Bounds, *, stored: bool):
        self.bounds, self.stored = bounds, stored
        self.nodes, self.leaves = 1, 0
        self.names: set[str] = set()
        self.without_digits: set[bytes] = set()
        self.groups: set[str] = set()
        self.hashes: list[str] = []
        self.metadata: list[Raw] = []

    def add_top(self, node: Node) -> None:
        if node.metadata_hash is not UNSET:
            self.hashes.append(node.metadata_hash)
        if isinstance(node, GROUPS):
            self._add_group(node, None, 0)
        else:
            self._add_leaf(node)

    def _add_group(self, node: Root | Group, path: Path, depth: int) -> None:
        children = node.children
        self._add_names(children, path)
        add_leaf = self._add_leaf
        for name, child in children.items():
            if child.metadata_hash is not UNSET:
                self.hashes.append(child.metadata_hash)
            if type(child) is not Group:
                add_leaf(child)  # type: ignore[arg-type]
            elif depth < self.bounds.depth:
                if len(self.groups) < MAX_CHECKED_NAMES:
                    self.groups.add(name)
                self._add_group(child, (path, name), depth + 1)
            else:
                raise ManifestError(f"Groups are nested more than {self.bounds.depth} deep at {_format((path, name))}.")

    def _add_leaf(self, node: File | Table) -> None:
        self.leaves += 1
        self.hashes.extend(node.hashes)
        if node.metadata is not NO_METADATA:
            self.metadata.append(node.metadata)

    def _add_names(self, names: Collection[str], path: Path) -> None:
        self.nodes += len(names)
        if self.nodes > self.bounds.nodes:
            raise ManifestError(f"The tree has more than {self.bounds.nodes:,} nodes, the limit of this registry.")
        if not self.stored:
            _check_names(names, path, self.bounds)
        if len(self.names) < MAX_CHECKED_NAMES:
            self.names.update(names)
        elif len(self.without_digits) < MAX_CHECKED_NAMES:
            self.without_digits.update("/".join(names).encode().translate(None, b"0123456789").split(b"/"))

    def all_names(self) -> set[str]:
        return self.names | {name.decode() for name in self.without_digits}


def _check_hashes(hashes: list[str]) -> None:
    # One match on all hashes joined is several times as fast as one match each.
    if set(map(len, hashes)) - {64} or not _HEX.fullmatch("".join(hashes)):
        wrong = next(sha256 for sha256 in hashes if not is_object_name(sha256))
        raise ManifestError(f"{_quote(wrong)} is not an object name, which has 64 lower-case hex digits.")


def is_object_name(text: str) -> bool:
    """Return whether a text has the form of an object name or top hash: exactly 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


# The path from the top to a node, as nested pairs, so that only an error builds its text.
Path = tuple["Path", str] | None


def find_bad_name(names: Collection[str]) -> str | None:
    """Return the first name that cannot be a component of a URL and of a file path, or None if all of them can.

    Such a name is empty, `.` or `..`, or contains `/`, NUL or a lone surrogate.
    """
    # One search in all names joined is several times as fast as one each.
    if not any(name in names for name in _RESERVED_NAMES) and not _FORBIDDEN.search("".join(names)):
        return None
    return next(name for name in names if name in _RESERVED_NAMES or _FORBIDDEN.search(name))


def _check_names(names: Collection[str], path: Path, bounds: Bounds) -> None:
    bad, longest = find_bad_name(names), max(names, key=len, default="")
    if bad is None and len(longest) <= bounds.name:
        return
    where = f"in {_format(path)}" if path else "at the top"
    if bad == "":
        raise ManifestError(f"A node {where} has an empty name.")
    if bad is not None:
        raise ManifestError(
            f"The node name {_quote(bad)} {where} is not allowed. A name must not be '.' or '..', "
            "and must not contain '/', NUL or a lone surrogate."
        )
    raise ManifestError(f"The node name {_quote(longest)} {where} is longer than {bounds.name} characters.")


def _format(path: Path) -> str:
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(name)
    return _quote("/".join(reversed(names))) if names else "the top"


def _quote(text: str) -> str:
    """Return a client's text in quotes, truncated so that no message repeats a whole request body."""
    return repr(text if len(text) <= 100 else text[:97] + "...")


class _Metadata(Struct, gc=False):
    """Any JSON object. Of the keys that released clients write, only the source path is read."""

    q_path: str | None = None


class _OddMetadata(Struct, gc=False):
    """Any JSON object, whatever its source path is: nothing is built of one that is no text."""

    q_path: Raw = Raw(b"")


_metadata = msgspec.json.Decoder(list[_Metadata])
_odd_metadata = msgspec.json.Decoder(list[_OddMetadata])

# A key `type` in JSON text. Before a key there is no backslash; inside of a text there is one before each quote.
_TYPE_KEY = re.compile(rb"""(?<!\\)"(?:t|\\u0074)(?:y|\\u0079)(?:p|\\u0070)(?:e|\\u0065)"[ \t\r\n]*:""")


# A number of at most 200 digits with an exponent below 100 fits into a 64-bit float. The parts, in which all digits are
# 0, are those of larger numbers: looking for them first is ten times as fast, but they also occur in texts.
_LARGE_NUMBER = re.compile(rb"[-:,\[ \t\r\n](?:[0-9.]{200}|[0-9.]+[eE]\+?[0-9]{3})")
_LARGE_NUMBER_PARTS = (b"0" * 200, b"0e000", b"0e+000")
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789E", b"000000000e")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NUMBER = re.compile(rb"[-+.0-9eE]{4,}")


def _sources(node: Node, metadata: list[Raw], bounds: Bounds, *, stored: bool) -> list[str]:
    """Check all metadata of a tree and return its source paths. Raise ManifestError, RecursionError."""
    # Decoding all metadata joined is several times as fast as decoding each.
    joined = b"[" + b",".join(metadata) + b"]"
    too_long = max(map(len, metadata), default=0) > bounds.metadata
    if not stored and (too_long or _has_type_key(joined) or _may_have_large_number(joined)):
        _check_metadata(node, None, bounds)
    try:
        return [each.q_path for each in _metadata.decode(joined) if each.q_path is not None]
    except msgspec.ValidationError:
        if not stored:
            _check_metadata(node, None, bounds)
    paths = [bytes(each.q_path) for each in _odd_metadata.decode(joined)]
    return [msgspec.json.decode(path) for path in paths if path.startswith(b'"')]


def _check_metadata(node: Node, path: Path, bounds: Bounds) -> None:
    """Check the metadata of one node after the other, and raise ManifestError for the first that is invalid."""
    if isinstance(node, GROUPS):
        for name, child in node.children.items():
            _check_metadata(child, (path, name), bounds)
        return
    text = bytes(node.metadata)
    if len(text) > bounds.metadata:
        raise ManifestError(f"The metadata of {_format(path)} is longer than {bounds.metadata:,} bytes.")
    if not text.startswith(b"{"):
        raise ManifestError(f"The metadata of {_format(path)} is not a JSON object.")
    if _has_type_key(text):
        raise ManifestError(f"The metadata of {_format(path)} has a key 'type', which no object in metadata may have.")
    if _may_have_large_number(text) and _has_large_number(text):
        raise ManifestError(
            f"The metadata of {_format(path)} has a number that is too large for a 64-bit float, so that not every "
            "program can read it. Write it as a text."
        )


def _has_type_key(text: bytes) -> bool:
    # Only these two can spell that key. Looking for them first is ten times as fast.
    return (b'"type"' in text or b"\\u" in text) and _TYPE_KEY.search(text) is not None


def _may_have_large_number(text: bytes) -> bool:
    shape = text.translate(_DIGITS_AS_ZERO)
    return any(part in shape for part in _LARGE_NUMBER_PARTS) and _LARGE_NUMBER.search(text) is not None


def _has_large_number(text: bytes) -> bool:
    return any(math.isinf(float(number)) for number in _NUMBER.findall(_STRING.sub(b"", text)))


def top_hash(node: Node) -> str:
    """Return the top hash of a checked tree: the SHA-256 over its canonical walk, in hex (protocol §7).

    Children are sorted by the code points of their names. Lengths count code points, not bytes. `metadata` and
    `format` are not part of the hash.
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
            add(kind + _ONE_HASH + node.hashes[0])
        else:
            add(kind + _integer(len(node.hashes)) + "".join(_HASH + sha256 for sha256 in node.hashes))

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
                add(_HASH + child.metadata_hash)
        flush()

    if isinstance(node, GROUPS):
        group(node)
    else:
        leaf(node)
    if node.metadata_hash is not UNSET:
        add(_HASH + node.metadata_hash)
    group = None  # type: ignore[assignment]  # its reference to itself would keep the tree alive until a garbage collection
    flush()
    return digest.hexdigest()


# The walk is built as text and encoded at once. Bytes above 127 that are not UTF-8 (they occur in lengths) become the
# lone surrogates of Python's `surrogateescape`, which no checked name contains.
_INTEGERS = [n.to_bytes(4, "big").decode("utf-8", "surrogateescape") for n in range(1024)]


def _integer(number: int) -> str:
    if number < 1024:
        return _INTEGERS[number]
    return number.to_bytes(4, "big").decode("utf-8", "surrogateescape")


_HASH = _INTEGERS[64]  # the length prefix of a hash
_ONE_HASH = _INTEGERS[1] + _HASH
_ROOT, _GROUP, _FILE, _TABLE = (_INTEGERS[len(kind)] + kind for kind in ("ROOT", "GROUP", "FILE", "TABLE"))


def subtree(node: Node, path: list[str], error: Callable[[str], Exception]) -> Node:
    """Return the node at a path of names. Raise `error(name)` for the first name that does not exist."""
    for name in path:
        child = node.children.get(name) if isinstance(node, GROUPS) else None
        if child is None:
            raise error(name)
        node = child
    return node


def graft(root: Root, path: list[str], part: Child, error: Callable[[str], Exception]) -> None:
    """Put a node at a path of at least one name. Create missing groups; replace the node that was there.

    Raise `error(name)` if the path leads through a FILE or TABLE.
    """
    node: Root | Group = root
    for name in path[:-1]:
        child = node.children.setdefault(name, Group({}))
        if not isinstance(child, Group):
            raise error(name)
        node = child
    node.children[path[-1]] = part
