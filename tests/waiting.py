"""Waiting for conditions that other processes fulfil, or that come true later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], seconds: float = 20, explain: Callable[[], str] = str) -> Found:
    """Poll until the condition returns a true value, and return that. After `seconds`, fail with `explain()`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, explain() or f"condition not met within {seconds} s"
        time.sleep(0.02)
    return found
