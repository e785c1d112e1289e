"""Manifest storage: pages hold the same tree, can be skipped, are shared between versions, and are compared."""

from __future__ import annotations

import functools
import hashlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from quilt import manifest
from quilt_registry.manifests import diff, pages, render
from quilt_registry.manifests.pages import MAX_ENTRIES, MIN_ENTRIES, Entry, GroupEntry, ObjectList, PageBodies
from quilt_registry.manifests.tree import PathNotFound, check_no_leaf_on_path, find_span, rebuild
from quilt_registry.packages import uploads
from tests import trees
from tests.strategies import NAMES, ROOTS
from tests.trees import Json, file, group, root, sha


def entries_of(tree: Json) -> list[Entry]:
    node = manifest.decode(json.dumps(tree).encode())
    names = manifest.check(node).objects
    return pages.entries_of(node, {name: _size(name) for name in names})  # type: ignore[arg-type]


def _size(name: str) -> int:
    return int(name[:4], 16)


def stored(entries: list[Entry], cuts: list[int]) -> PageBodies:
    """Return the entries as pages that end at these positions."""
    ends = [*sorted({cut % len(entries) for cut in cuts} - {0}), len(entries)]
    starts = [0, *ends[:-1]]
    parts = [entries[start:end] for start, end in zip(starts, ends, strict=True)]
    return PageBodies([pages.compress(pages.pack(part)) for part in parts], list(map(len, parts)))


def bodies(tree: Json) -> list[bytes]:
    return [pages.compress(pages.pack(part)) for part in pages.cut(entries_of(tree))]


def packed(sizes: dict[str, int]) -> ObjectList:
    return ObjectList(bytes.fromhex("".join(sizes)), pages.pack_sizes(sizes.values()))


def unpacked(objects: ObjectList) -> dict[str, int]:
    return {digest.hex(): size for digest, size in objects}


def objects_below(node: Json, meta_only: bool = False) -> set[str]:
    """Return the object names of a (sub)tree, as the protocol defines them."""
    names = {node["metadata_hash"]} if "metadata_hash" in node else set()
    if not meta_only:
        names.update(node.get("hashes", []))
    for child in node.get("children", {}).values():
        names |= objects_below(child, meta_only)
    return names


CUTS = st.lists(st.integers(0, 1000), max_size=5)


# ------------------------------------------------------------------------------------ tree → pages → tree


@given(ROOTS, CUTS)
def test_a_tree_comes_back_from_its_pages(tree: Json, cuts: list[int]) -> None:
    node, sizes = rebuild(stored(entries_of(tree), cuts).bodies)
    assert json.loads(manifest.encode(node)) == tree
    assert sizes == {name: _size(name) for name in objects_below(tree)}


@given(ROOTS)
def test_a_group_knows_the_totals_of_what_is_below_it(tree: Json) -> None:
    entries = entries_of(tree)
    for i, entry in enumerate(entries):
        if isinstance(entry, GroupEntry):
            below = entries[i + 1 : i + 1 + entry.entries]
            after = entries[i + 1 + entry.entries : i + 2 + entry.entries]
            leaves = [each for each in below if not isinstance(each, GroupEntry)]
            assert all(each.depth > entry.depth for each in below)
            assert all(each.depth <= entry.depth for each in after)
            assert (entry.files, entry.size) == (len(leaves), sum(sum(leaf.sizes) for leaf in leaves))


@given(ROOTS, CUTS, CUTS)
def test_pages_rendered_in_any_pieces_are_the_tree(tree: Json, cuts: list[int], turns: list[int]) -> None:
    kept = stored(entries_of(tree), cuts)
    stops = sorted({turn % (len(kept.bodies) + 1) for turn in turns} | {0, len(kept.bodies)})
    depth, first, text, found = 0, True, b"", []
    for start, stop in pairwise(stops):
        rendered = render.render(kept.bodies[start:stop], depth, first=first)
        depth, first, text = rendered.depth, rendered.first, text + rendered.json
        found.append(rendered.objects)
    text += render.close(depth)
    again = json.loads(text)
    assert again == tree
    assert trees.top_hash(again) == trees.top_hash(tree)
    assert unpacked(pages.distinct(found)).keys() == objects_below(tree)


@given(ROOTS, CUTS, st.data(), st.booleans())
def test_only_the_objects_in_a_span_are_given(
    tree: Json, cuts: list[int], data: st.DataObject, meta_only: bool
) -> None:
    kept = stored(entries_of(tree), cuts)
    path = data.draw(st.sampled_from(_paths(tree)))
    start, stop = find_span(kept, path)
    depth, first, before, found = 0, True, 0, []
    for body, count in zip(kept.bodies, kept.counts, strict=True):
        span = start - before, stop - before
        rendered = render.render([body], depth, first=first, span=span, meta_only=meta_only)
        depth, first, before = rendered.depth, rendered.first, before + count
        found.append(rendered.objects)
    expected = objects_below(_at(tree, path), meta_only)
    assert unpacked(pages.distinct(found)) == {name: _size(name) for name in expected}


def test_odd_names_and_metadata_are_rendered_as_json() -> None:
    """Quotes, backslashes, control characters, and metadata exactly as sent."""
    metadata = b'{ "q_path": "c:\\\\a \\"b\\"", "n": 1e400 }'
    names = ['"', "\\", "\n\x01\x7f", "\u2028", "日本", "\U0001f600"]
    text = json.dumps(root({name: group({"f": file(b"x", metadata={"mark": 1})}) for name in names})).encode()
    text = text.replace(b'{"mark": 1}', metadata)
    node = manifest.decode(text)
    kept = [pages.compress(pages.pack(pages.entries_of(node, {sha(b"x"): 1})))]  # type: ignore[arg-type]
    rendered = render.render(kept)
    out = rendered.json + render.close(rendered.depth)
    assert json.loads(out) == json.loads(text)
    assert out.count(metadata) == len(names)


# ------------------------------------------------------------------------------------------------ finding


def _paths(tree: Json) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for name, child in tree.get("children", {}).items():
        found += [[name, *path] for path in _paths(child)]
    return found


def _at(tree: Json, path: list[str]) -> Json:
    for name in path:
        tree = tree["children"][name]
    return tree


@given(ROOTS, CUTS)
def test_each_node_is_found_at_its_path(tree: Json, cuts: list[int]) -> None:
    entries = entries_of(tree)
    kept = stored(entries, cuts)
    for path in _paths(tree):
        start, stop = find_span(kept, path)
        assert entries[start].name == (path[-1] if path else "")
        assert stop - start == len(_paths(_at(tree, path)))


@given(ROOTS, CUTS, st.data())
def test_a_path_that_leads_nowhere_names_its_first_wrong_step(tree: Json, cuts: list[int], data: st.DataObject) -> None:
    kept = stored(entries_of(tree), cuts)
    path = data.draw(st.sampled_from(_paths(tree)))
    there = _at(tree, path).get("children", {})
    wrong = data.draw(NAMES.filter(lambda name: name not in there))
    with pytest.raises(PathNotFound) as missing:
        find_span(kept, [*path, wrong, "more"])
    assert missing.value.name == wrong


class _LeafOnPath(Exception):
    pass


@given(ROOTS, CUTS, st.data())
def test_a_leaf_in_the_way_of_a_part_is_seen(tree: Json, cuts: list[int], data: st.DataObject) -> None:
    kept = stored(entries_of(tree), cuts)
    path = data.draw(st.sampled_from(_paths(tree)))
    if "hashes" in _at(tree, path):
        for further in (["x"], ["x", "y"]):
            with pytest.raises(_LeafOnPath) as refused:
                check_no_leaf_on_path(kept, [*path, *further], _LeafOnPath)
            assert refused.value.args == (path[-1],)
    else:
        check_no_leaf_on_path(kept, [*path, "x", "y", "z"], _LeafOnPath)
    if path:
        check_no_leaf_on_path(kept, path, _LeafOnPath)  # the node at the path itself will be replaced


# ------------------------------------------------------------------------------------------------ cutting


def _large(count: int, extra: tuple[str, ...] = ()) -> Json:
    """Return a tree of some tens of thousands of files in groups of a thousand."""
    groups: dict[str, Json] = {}
    for i in range(count):
        groups.setdefault(f"g{i // 1000:03}", group({}))["children"][f"f{i % 1000:03}"] = file(str(i).encode())
    for name in extra:
        groups["g007"]["children"][name] = file(name.encode())
    return root(groups)


@functools.cache
def _page_names(*extra: str) -> list[bytes]:
    return [pages.digest(pages.pack(part)) for part in pages.cut(entries_of(_large(20_000, extra)))]


def test_pages_keep_their_bounds_and_lose_nothing() -> None:
    entries = entries_of(_large(30_000))
    parts = pages.cut(entries)
    assert [entry for part in parts for entry in part] == entries
    assert all(MIN_ENTRIES <= len(part) <= MAX_ENTRIES for part in parts[:-1])
    assert 1 <= len(parts[-1]) <= MAX_ENTRIES
    assert 10 <= len(parts) <= 60  # about 1,280 entries each


@pytest.mark.parametrize("file_count", [0, 1, MIN_ENTRIES - 1, MIN_ENTRIES, MAX_ENTRIES, 3 * MAX_ENTRIES])
def test_pages_without_any_place_to_cut_are_of_the_largest_size(file_count: int) -> None:
    """Only groups, or objects whose digests never trigger a cut."""
    entries = entries_of(root({f"{i:06}": group({}) for i in range(file_count)}))
    lengths = [len(part) for part in pages.cut(entries)]
    assert sum(lengths) == file_count + 1
    assert set(lengths[:-1]) <= {MAX_ENTRIES}


def test_pages_whose_every_entry_asks_for_a_cut_are_of_the_smallest_size() -> None:
    tree = root({f"{i:06}": {"type": "FILE", "hashes": ["0" * 64]} for i in range(2000)})
    assert {len(part) for part in pages.cut(entries_of(tree))[:-1]} == {MIN_ENTRIES}


@pytest.mark.parametrize("new_name", ["a", "f500x", "zzz"])
def test_an_inserted_file_changes_only_the_pages_beside_it(new_name: str) -> None:
    before, after = _page_names(), _page_names(new_name)
    # The page of the file; the first page, with the totals; and pages until the cuts coincide again.
    assert len(set(after) - set(before)) <= 5
    assert len(set(before) & set(after)) >= len(before) - 5


def test_a_pages_name_is_that_of_its_entries_before_compression() -> None:
    data = pages.pack(entries_of(root({"f": file(b"x")})))
    assert pages.digest(data) == hashlib.sha256(data).digest()
    assert pages.pack(pages.read(pages.compress(data))) == data


def test_sizes_are_part_of_a_pages_name() -> None:
    node: Any = manifest.decode(json.dumps(root({"f": file(b"x")})).encode())
    names = {pages.digest(pages.pack(pages.entries_of(node, {sha(b"x"): size}))) for size in (1, 2)}
    assert len(names) == 2


# ------------------------------------------------------------------------------------------------ objects

OBJECT_SIZES = st.dictionaries(st.integers(0, 20).map(lambda i: sha(bytes([i]))), st.integers(0, 2**63 - 1), max_size=8)


@given(OBJECT_SIZES, st.integers(1, 4))
def test_objects_come_in_batches(sizes: dict[str, int], count: int) -> None:
    batches = list(packed(sizes).batches(count))
    assert all(1 <= len(batch) <= count for batch in batches)
    assert [pair for batch in batches for pair in batch] == list(packed(sizes))


@given(OBJECT_SIZES, OBJECT_SIZES)
def test_known_objects_are_left_out(sizes: dict[str, int], others: dict[str, int]) -> None:
    known = {name: size for name, size in sizes.items() if name in others}
    left = uploads.leave_out_known(packed(sizes), packed(known))
    assert unpacked(left) == {name: size for name, size in sizes.items() if name not in others}
    assert len(left) == len(unpacked(left))


@given(st.lists(st.sets(st.integers(0, 20)), max_size=4))
def test_each_object_is_given_once(parts: list[set[int]]) -> None:
    sizes = [{sha(bytes([i])): i for i in part} for part in parts]
    together = pages.distinct([packed(part) for part in sizes])
    assert unpacked(together) == {name: size for part in sizes for name, size in part.items()}
    assert len(together) == len(set().union(*parts))


# ---------------------------------------------------------------------------------------------- comparison

META = sha(b'{"author":"me"}')


def test_metadata_on_a_last_child_or_on_its_group_is_one_hash_and_two_trees() -> None:
    on_child = root({"g": group({"f": file(b"x", metadata_hash=META)})})
    on_group = root({"g": group({"f": file(b"x")}, metadata_hash=META)})
    on_top = root({"g": group({"f": file(b"x")})}, metadata_hash=META)
    assert trees.top_hash(on_child) == trees.top_hash(on_group) == trees.top_hash(on_top)
    for one, other in ((on_child, on_group), (on_group, on_top), (on_top, on_child)):
        assert not diff.same_outside_metadata(bodies(one), bodies(other))
        assert diff.same_outside_metadata(bodies(one), bodies(one))


@given(ROOTS, CUTS, CUTS)
def test_where_pages_end_and_metadata_do_not_count_in_a_comparison(
    tree: Json, cuts: list[int], more: list[int]
) -> None:
    ours, theirs = entries_of(tree), entries_of(tree)
    for entry in theirs:
        if not isinstance(entry, GroupEntry):
            entry.metadata = b'{"q_path":"elsewhere"}'
    assert diff.same_outside_metadata(stored(ours, cuts).bodies, stored(theirs, more).bodies)


@given(ROOTS, ROOTS)
def test_a_comparison_tells_trees_apart(one: Json, other: Json) -> None:
    same = _bare(one) == _bare(other)
    assert diff.same_outside_metadata(bodies(one), bodies(other)) == same
    longer = {**one, "children": {**one["children"], "\U0010ffff": file(b"one more, at the end")}}
    assert not diff.same_outside_metadata(bodies(one), bodies(longer))
    assert not diff.same_outside_metadata(bodies(longer), bodies(one))


def _bare(tree: Json) -> Json:
    return {
        name: {child: _bare(node) for child, node in value.items()} if name == "children" else value
        for name, value in tree.items()
        if name != "metadata"
    }
