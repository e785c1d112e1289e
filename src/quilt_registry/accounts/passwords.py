"""Passwords, hashed with argon2id. That takes some 50 ms of a core and 64 MB: it runs in threads, few at once.

Accounts that come from a registry of the original bring PBKDF2 hashes (protocol §5); they are replaced when their users
sign in.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from quilt_registry.errors import Invalid

SHORTEST, LONGEST = 8, 4096  # characters; longer ones only cost time

_hasher = PasswordHasher()
# Compared with when there is no such account, so that the answer takes as long as with one. No password leads to it.
_nobody = "$argon2id$v=19$m={},t={},p={}${}${}".format(
    _hasher.memory_cost, _hasher.time_cost, _hasher.parallelism, "A" * 22, "A" * 43
)
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
    return await keep(password)


async def keep(password: str) -> str:
    """A password as it is kept, whatever its length."""
    async with _few_at_once:
        return await asyncio.to_thread(_hasher.hash, password)


async def verify(password: str, kept: str | None) -> bool:
    """Whether a password is the one kept; takes equally long when none is (`kept` is None or empty)."""
    async with _few_at_once:
        return await asyncio.to_thread(_matches, password[: LONGEST + 1], kept or _nobody) and bool(kept)


def is_outdated(kept: str) -> bool:
    """Whether a password is kept as the original did."""
    return not kept.startswith("$argon2")


def _matches(password: str, kept: str) -> bool:
    if "pbkdf2" in kept[:10]:
        return _matches_pbkdf2(password, kept)
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


def _matches_pbkdf2(password: str, kept: str) -> bool:
    """The two forms of the original: `$pbkdf2-sha512$ROUNDS$SALT$HASH` and, older, `pbkdf2_sha256$ROUNDS$SALT$HASH`."""
    try:
        kind, rounds, salt, digest = kept.removeprefix("$").split("$")
        salted = salt.encode() if "_" in kind else _decode(salt)
        found = hashlib.pbkdf2_hmac(kind[-6:], password.encode(), salted, int(rounds))
        return hmac.compare_digest(found, _decode(digest))
    except ValueError:
        return False


def _decode(text: str) -> bytes:
    """Base64, also with `.` for `+` and without padding."""
    return base64.b64decode(text.rstrip("=").replace(".", "+") + "=" * (-len(text.rstrip("=")) % 4))
