"""A bounded cache in memory of what never changes, such as what was computed from an object with a known digest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """Values by key, with weights. The least recently used ones make room for new ones."""

    def __init__(self, max_weight: int):
        self.max_weight = max_weight
        self._weight = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key, or None if it is not cached."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: V, weight: int) -> None:
        """Keep a value, unless it is heavier than a quarter of the cache."""
        if weight > self.max_weight // 4 or key in self._values:
            return
        self._values[key] = (value, weight)
        self._weight += weight
        while self._weight > self.max_weight:
            _, (_, freed) = self._values.popitem(last=False)
            self._weight -= freed
