"""Comparison of two manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from quilt_registry.manifests.pages import read


def same_outside_metadata(ours: Sequence[bytes], theirs: Sequence[bytes]) -> bool:
    """Whether two manifests are the same tree but for `metadata`.

    One top hash can name two trees: nothing in it marks whose metadata hash it is.
    """

    def bare(bodies: Sequence[bytes]) -> Iterator[tuple[object, ...]]:
        for entry in chain.from_iterable(map(read, bodies)):
            yield type(entry), entry.name, entry.depth, entry.meta, getattr(entry, "digests", None)

    ours_left = bare(ours)
    return all(mine == next(ours_left, None) for mine in bare(theirs)) and next(ours_left, None) is None
