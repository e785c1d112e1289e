"""Comparison of two manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from quilt_registry.manifests.pages import read


def same_outside_metadata(ours: Sequence[bytes], theirs: Sequence[bytes]) -> bool:
    """Return whether the page bodies of two manifests hold the same tree but for `metadata`.

    Equal top hashes do not imply it, because a top hash does not tell to which node a metadata hash belongs.
    """

    def bare(bodies: Sequence[bytes]) -> Iterator[tuple[object, ...]]:
        for entry in chain.from_iterable(map(read, bodies)):
            yield type(entry), entry.name, entry.depth, entry.meta, getattr(entry, "digests", None)

    others = bare(theirs)
    return all(entry == next(others, None) for entry in bare(ours)) and next(others, None) is None
