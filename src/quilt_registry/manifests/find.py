"""Search for a text in the paths of a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from msgspec import Struct

from quilt_registry.manifests.pages import GroupName, read_names


class FoundPath(Struct, frozen=True, gc=False):
    """The path of a node whose name or path contains the text."""

    path: list[str]
    is_group: bool


class FoundPaths(Struct, frozen=True):
    """The first matches, and how many there are."""

    paths: list[FoundPath]
    total: int


def find(bodies: Sequence[bytes], text: str, limit: int) -> FoundPaths:
    """Return nodes whose paths contain a text, in any case. Those whose names contain it come first."""
    wanted = text.lower()
    by_name: list[FoundPath] = []
    by_path: list[FoundPath] = []
    total = 0
    names: list[str] = []  # of the groups that are open
    prefix, inside = "", False  # their joined names, in lower case; whether these contain the text
    spans_names = "/" in wanted
    depth = 0
    for entry in chain.from_iterable(map(read_names, bodies)):
        if entry.depth != depth:
            depth = entry.depth
            del names[max(depth - 1, 0) :]
            prefix = "".join(f"{name}/" for name in names).lower()
            inside = wanted in prefix
        lower = entry.name.lower()
        matches = wanted in lower
        if depth and (matches or inside or (spans_names and wanted in prefix + lower)):
            total += 1
            found = by_name if matches else by_path
            if len(found) < limit:
                found.append(FoundPath([*names, entry.name], type(entry) is GroupName))
        if type(entry) is GroupName and depth:
            names.append(entry.name)
            depth += 1
            prefix = "".join(f"{name}/" for name in names).lower()
            inside = wanted in prefix
    return FoundPaths((by_name + by_path)[:limit], total)
