"""Password hashing with argon2id, in few threads at a time, because each hash takes about 50 ms of a core and 64 MB.

Accounts imported from the original registry have PBKDF2 hashes (protocol §5). They are replaced at the next sign-in.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from quilt_registry.errors import Invalid

MIN_LENGTH, MAX_LENGTH = 8, 4096  # characters; longer passwords only cost time

_hasher = PasswordHasher()
# Compared with if there is no account, so that the response takes as long as with one. No password matches it.
_DUMMY_HASH = "$argon2id$v=19$m={},t={},p={}${}${}".format(
    _hasher.memory_cost, _hasher.time_cost, _hasher.parallelism, "A" * 22, "A" * 43
)
_concurrency = asyncio.Semaphore(4)


def check(password: str) -> None:
    """Raise Invalid if a password is too short or too long."""
    if len(password) < MIN_LENGTH:
        raise Invalid(f"Password must be at least {MIN_LENGTH} characters long.")
    if len(password) > MAX_LENGTH:
        raise Invalid(f"Password must be at most {MAX_LENGTH} characters long.")


async def hash(password: str) -> str:
    """Return the hash to store for a new password. Raise Invalid if the password is too short or too long."""
    check(password)
    return await rehash(password)


async def rehash(password: str) -> str:
    """Return the hash to store for a password that has been accepted before, whatever its length."""
    async with _concurrency:
        return await asyncio.to_thread(_hasher.hash, password)


async def verify(password: str, stored_hash: str | None) -> bool:
    """Return whether a password matches. Without a hash (None or empty), return False after the same time."""
    async with _concurrency:
        matches = await asyncio.to_thread(_matches, password[: MAX_LENGTH + 1], stored_hash or _DUMMY_HASH)
    return matches and bool(stored_hash)


def needs_rehash(stored_hash: str) -> bool:
    """Return whether a hash comes from the original registry."""
    return not stored_hash.startswith("$argon2")


def _matches(password: str, stored_hash: str) -> bool:
    if "pbkdf2" in stored_hash[:10]:
        return _matches_pbkdf2(password, stored_hash)
    try:
        return _hasher.verify(stored_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _matches_pbkdf2(password: str, stored_hash: str) -> bool:
    """Check a hash in a form of the original registry.

    Its forms are `$pbkdf2-sha512$ROUNDS$SALT$HASH` and, older, `pbkdf2_sha256$ROUNDS$SALT$HASH`.
    """
    try:
        kind, rounds, salt, digest = stored_hash.removeprefix("$").split("$")
        salt_bytes = salt.encode() if "_" in kind else _decode(salt)
        computed = hashlib.pbkdf2_hmac(kind[-6:], password.encode(), salt_bytes, int(rounds))
        return hmac.compare_digest(computed, _decode(digest))
    except ValueError:
        return False


def _decode(text: str) -> bytes:
    """Decode base64, also with `.` for `+` and without padding."""
    return base64.b64decode(text.rstrip("=").replace(".", "+") + "=" * (-len(text.rstrip("=")) % 4))
