"""Hypothesis strategies for package trees that the registry accepts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests import trees
from tests.trees import Json

HASHES = st.binary(min_size=2, max_size=2).map(lambda data: trees.sha(data))  # few, so that some repeat
NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
) | st.sampled_from(["README", "a", "B", "é", "e\u0301", "\uff5e", "\U0001f600"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _has_no_type(value: Any) -> bool:
    if isinstance(value, dict):
        return "type" not in value and all(map(_has_no_type, value.values()))
    return not isinstance(value, list) or all(map(_has_no_type, value))


METADATA = st.dictionaries(st.text(max_size=6), _VALUES, max_size=3).filter(_has_no_type)
_META_HASH = st.fixed_dictionaries({}, optional={"metadata_hash": HASHES})
_LEAF = st.one_of(
    st.builds(
        lambda hashes, metadata, more: {"type": "FILE", "hashes": hashes, "metadata": metadata, **more},
        st.lists(HASHES, min_size=1, max_size=1), METADATA, _META_HASH,
    ),
    st.builds(
        lambda hashes, metadata, more: {
            "type": "TABLE", "format": "PARQUET", "hashes": hashes, "metadata": metadata, **more
        },
        st.lists(HASHES, max_size=3), METADATA, _META_HASH,
    ),
)  # fmt: skip


def _group(children: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.builds(
        lambda below, more: trees.group(below, **more), st.dictionaries(NAMES, children, max_size=5), _META_HASH
    )


NODES = st.recursive(_LEAF, _group, max_leaves=15)
ROOTS = _group(NODES).map(lambda node: {**node, "type": "ROOT"})
