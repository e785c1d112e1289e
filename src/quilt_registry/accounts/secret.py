"""Tokens, codes and links are random texts. Whoever has one holds it whole; the database holds its SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets


def generate() -> str:
    """A new secret, 256 bits: letters, digits, `-` and `_`, so that it needs no escaping and holds no dot."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What the database knows of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
