"""Passwords, hashed with argon2id. That takes some 50 ms of a core and 64 MB: it runs in threads, few at once."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from quilt_registry.errors import Invalid

SHORTEST, LONGEST = 8, 4096  # characters; longer ones only cost time

_hasher = PasswordHasher()
# Compared with when there is no such account, so that the answer takes as long as with one.
_nobody = _hasher.hash("nobody has this password")
_few_at_once = asyncio.Semaphore(4)


def check(password: str) -> None:
    """Raises Invalid for a password that is too short or too long."""
    if len(password) < SHORTEST:
        raise Invalid(f"Password must be at least {SHORTEST} characters long.")
    if len(password) > LONGEST:
        raise Invalid(f"Password must be at most {LONGEST} characters long.")


async def hash(password: str) -> str:
    """A password as it is kept. Raises Invalid if it is too short or too long."""
    check(password)
    async with _few_at_once:
        return await asyncio.to_thread(_hasher.hash, password)


async def verify(password: str, kept: str | None) -> bool:
    """Whether a password is the one kept; takes equally long when none is (`kept` is None)."""
    async with _few_at_once:
        return await asyncio.to_thread(_matches, password[: LONGEST + 1], kept or _nobody) and kept is not None


def _matches(password: str, kept: str) -> bool:
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False
