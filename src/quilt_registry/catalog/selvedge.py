"""Selvedges: strips of coloured threads computed from a hash. The same content has the same strip."""

from __future__ import annotations

import hashlib

from msgspec import Struct

DYES = 8  # colours in quilt.css
THREADS = 16  # of a version
GAP = 1  # pixels between two threads, which may have dyes that are equally light
UNIT = 4  # pixels, in a team's selvedge


class Thread(Struct, frozen=True):
    """A thread: its left edge and width in pixels, and the number of its dye."""

    x: float
    width: float
    dye: int


def version_threads(top_hash: bytes, width: int) -> list[Thread]:
    """Return the threads of a version's selvedge of `width` pixels: one for each of the first 16 bytes of its hash."""
    units = [1 + (byte >> 3) % 4 for byte in top_hash[:THREADS]]
    unit = (width - GAP * (len(units) - 1)) / sum(units)
    threads = []
    x = 0.0
    for byte, count in zip(top_hash, units, strict=False):
        threads.append(Thread(round(x, 2), round(count * unit, 2), byte % DYES))
        x += count * unit + GAP
    return threads


def team_threads(team: str) -> list[Thread]:
    """Return one repeat of a team's selvedge: twelve threads of three dyes, in the order A B A C."""
    digest = hashlib.sha256(team.encode()).digest()
    dyes: list[int] = []
    for byte in digest[:3]:
        dye = byte % DYES
        while dye in dyes:
            dye = (dye + 1) % DYES
        dyes.append(dye)
    threads = []
    x = 0
    for i, byte in enumerate(digest[3:15]):
        width = (1 + byte % 4) * UNIT
        threads.append(Thread(x, width, dyes[(0, 1, 0, 2)[i % 4]]))
        x += width
    return threads


def avatar_dye(name: str) -> int:
    """Return the number of the dye behind a user's initials."""
    return hashlib.sha256(name.encode()).digest()[0] % DYES
