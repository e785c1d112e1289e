"""Waiting for what happens in another process, or a moment later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(happens: Callable[[], Found], seconds: float = 20, says: Callable[[], str] = str) -> Found:
    """Wait for something to be so, or to be found, and give it. A wait in vain fails with what `says` tells."""
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end, says() or f"waited {seconds} s in vain"
        time.sleep(0.02)
    return found
