"""Links in letters: each for one purpose, good once, for a day."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from quilt_registry.accounts import secret
from quilt_registry.database import Connection, Database

LIFE = timedelta(hours=24)

Purpose = Literal["activation", "reset"]


async def create(connection: Connection, account_id: int, purpose: Purpose) -> str:
    """A new link of an account; those before stay good unless they are made void."""
    text = secret.generate()
    await connection.execute(
        "INSERT INTO link (digest, account_id, purpose, expires_at) VALUES ($1, $2, $3, now() + $4::interval)",
        secret.digest(text), account_id, purpose, LIFE,
    )  # fmt: skip
    return text


async def revoke(connection: Connection, account_id: int, purpose: Purpose) -> None:
    """Let no link of an account for a purpose work any more."""
    await connection.execute("DELETE FROM link WHERE account_id = $1 AND purpose = $2", account_id, purpose)


async def is_valid(db: Database, text: str, purpose: Purpose) -> bool:
    """Whether a link would work now. Does not use it up: programs that scan mail open links, too."""
    return await db.value(
        bool,
        "SELECT EXISTS (SELECT FROM link WHERE digest = $1 AND purpose = $2 AND expires_at > now())",
        secret.digest(text),
        purpose,
    )


async def redeem(connection: Connection, text: str, purpose: Purpose) -> int | None:
    """Use a link up; returns the account's id, or None for a link that is not good (any more), or not for this."""
    account_id: int | None = await connection.fetchval(
        "DELETE FROM link WHERE digest = $1 AND purpose = $2 AND expires_at > now() RETURNING account_id",
        secret.digest(text),
        purpose,
    )
    return account_id
