"""Random secrets of tokens, codes and links. The database stores only their SHA-256."""

from __future__ import annotations

import hashlib
import secrets


def generate() -> str:
    """Return a new secret of 256 bits. It has letters, digits, `-` and `_`: no dot, and nothing that needs escaping."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
