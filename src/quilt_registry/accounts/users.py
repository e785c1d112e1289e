"""Accounts: their names, addresses and passwords."""

from __future__ import annotations

import re

import asyncpg
from msgspec import Struct

from quilt_registry.accounts import passwords
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid

RESERVED = {"team", "public", "anonymous", "quilt"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_EMAIL = re.compile(r"[^\s@\0]+@[^\s@\0]+")


class Account(Struct, frozen=True):
    """Somebody who may sign in. Names are never changed and never used again."""

    id: int
    name: str
    email: str
    is_admin: bool
    is_active: bool


def is_user_name(name: str) -> bool:
    """Whether a text has the form of a user name; reserved ones have it too."""
    return _NAME.fullmatch(name) is not None


async def create(db: Database, name: str, email: str, password: str, is_admin: bool = False) -> None:
    """Make an active account. Raises Invalid or Conflict, worded as the catalog of the original compares them."""
    if not is_user_name(name) or name in RESERVED:
        raise Invalid("Invalid username.")
    if not _EMAIL.fullmatch(email) or len(email) > 320:
        raise Invalid("Invalid email.")
    digest = await passwords.hash(password)
    try:
        await db.execute(
            "INSERT INTO account (name, email, password, is_admin) VALUES ($1, $2, $3, $4)",
            name,
            email,
            digest,
            is_admin,
        )
    except asyncpg.UniqueViolationError as error:
        taken = "Username" if error.constraint_name == "account_name" else "Email"
        raise Conflict(f"{taken} already taken.") from None


async def any_admin(db: Database) -> bool:
    """Whether there is an active admin."""
    return await db.fetchval("SELECT EXISTS (SELECT FROM account WHERE is_admin AND is_active)")  # type: ignore[no-any-return]
