"""Reading a manifest by single pages finds what the whole tree has, and fetches little of a large one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, strategies as st

from quilt_registry.manifests import find, pages
from quilt_registry.manifests.pages import GroupEntry, PageBodies
from quilt_registry.manifests.walk import MAX_PAGES_AHEAD, Place, Walk
from tests.manifests.test_manifest_pages import CUTS, entries_of, stored
from tests.strategies import NAMES, ROOTS
from tests.trees import Json, file, group, root


class Pages:
    """Pages of a manifest, and which of them were fetched."""

    def __init__(self, stored: PageBodies):
        self.bodies, self.counts = stored.bodies, stored.counts
        self.fetched: list[list[int]] = []

    async def fetch(self, numbers: Sequence[int]) -> list[bytes]:
        self.fetched.append(list(numbers))
        return [self.bodies[number] for number in numbers]

    def find(self, path: list[str]) -> list[Place]:
        return asyncio.run(Walk(self.counts, self.fetch).find(path))

    def children(self, path: list[str]) -> list[Place]:
        async def read() -> list[Place]:
            walk = Walk(self.counts, self.fetch)
            parent = (await walk.find(path))[-1]
            return [place async for place in walk.children(parent)]

        return asyncio.run(read())


def nodes(node: Json, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Json]:
    found = {path: node}
    for name, child in node.get("children", {}).items():
        found |= nodes(child, (*path, name))
    return found


@given(ROOTS, CUTS)
def test_every_node_is_found_with_its_children(tree: Json, cuts: list[int]) -> None:
    manifest = Pages(stored(entries_of(tree), cuts))
    for path, node in nodes(tree).items():
        places = manifest.find(list(path))
        assert [place.entry.name for place in places] == ["", *path]
        if "children" in node:
            assert [place.entry.name for place in manifest.children(list(path))] == sorted(node["children"])


@given(ROOTS, CUTS, st.lists(NAMES, max_size=4))
def test_other_paths_are_found_as_far_as_they_exist(tree: Json, cuts: list[int], path: list[str]) -> None:
    places = Pages(stored(entries_of(tree), cuts)).find(path)
    known = nodes(tree)
    expected = max(length for length in range(len(path) + 1) if tuple(path[:length]) in known)
    assert len(places) == expected + 1


def large(tree: dict[str, Any]) -> Pages:
    entries = entries_of(root(tree))
    return Pages(stored(entries, list(range(0, len(entries), 6))))


def test_a_file_in_a_large_folder_costs_few_pages() -> None:
    manifest = large({f"tile_{number:05}": file(b"1") for number in range(6000)})
    assert len(manifest.counts) == 1001
    manifest.find(["tile_05990"])
    assert len(manifest.fetched) <= 5


def test_a_listing_reads_ahead() -> None:
    manifest = large({f"g{number:04}": group({"a": file(b"1"), "b": file(b"2")}) for number in range(100)})
    assert len(manifest.children([])) == 100
    assert len(manifest.fetched) <= 6
    assert max(map(len, manifest.fetched)) <= MAX_PAGES_AHEAD


def test_the_start_of_a_listing_is_that_of_a_child() -> None:
    manifest = Pages(stored(entries_of(root({"g": group({"a": file(b"1")}), "h": file(b"2")})), []))
    walk = Walk(manifest.counts, manifest.fetch)

    async def starts() -> list[bool]:
        top = (await walk.find([]))[0]
        return [await walk.is_child(top, index) for index in range(6)]

    assert asyncio.run(starts()) == [False, True, False, True, False, False]


# ------------------------------------------------------------------------------------------------ search


@given(ROOTS, CUTS, st.sampled_from(["a", "A", "b/", "/", "EADM", "é"]))
def test_a_search_finds_all_paths_with_a_text(tree: Json, cuts: list[int], text: str) -> None:
    found = find.find(stored(entries_of(tree), cuts).bodies, text, 1000)
    paths = ["/".join(path) for path in nodes(tree) if path]
    expected = sorted(path for path in paths if text.lower() in path.lower())
    assert sorted("/".join(each.path) for each in found.paths) == expected
    assert found.total == len(expected)


def test_names_are_found_before_folders() -> None:
    tree = root({"iris": group({"a": file(b"1")}), "z": group({"iris": file(b"2")})})
    found = find.find(stored(entries_of(tree), []).bodies, "Iris", 2)
    assert [each.path for each in found.paths] == [["iris"], ["z", "iris"]]
    assert [each.is_group for each in found.paths] == [True, False]
    assert found.total == 3


def test_names_are_read_as_the_entries_have_them() -> None:
    entries = entries_of(root({"g": group({"a": file(b"1")}), "h": file(b"2")}))
    body = pages.compress(pages.pack(entries))
    assert [(each.name, each.depth) for each in pages.read_names(body)] == [(each.name, each.depth) for each in entries]
    assert [pages.decode_entry(raw) for raw in pages.read_raw(body)] == entries
    assert isinstance(entries[1], GroupEntry)
