"""Links in emails. Each serves one purpose, works once and expires after 24 hours."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from quilt_registry.accounts import secret
from quilt_registry.database import Connection, Database

LIFETIME = timedelta(hours=24)

Purpose = Literal["activation", "reset"]


async def create(connection: Connection, account_id: int, purpose: Purpose) -> str:
    """Return the secret of a new link. Earlier links stay valid until they are revoked."""
    link = secret.generate()
    await connection.execute(
        "INSERT INTO link (digest, account_id, purpose, expires_at) VALUES ($1, $2, $3, now() + $4::interval)",
        secret.digest(link), account_id, purpose, LIFETIME,
    )  # fmt: skip
    return link


def browser_proof(link: str) -> str:
    """Return what the browser that asked for a link keeps, to show later that the link was opened in it.

    It follows from the link, which only the mailbox has, and does not reveal it.
    """
    return secret.digest(f"browser {link}").hex()


async def revoke(connection: Connection, account_id: int, purpose: Purpose) -> None:
    """Revoke all links of an account for one purpose."""
    await connection.execute("DELETE FROM link WHERE account_id = $1 AND purpose = $2", account_id, purpose)


async def is_valid(db: Database, link: str, purpose: Purpose) -> bool:
    """Return whether a link would work, without redeeming it, because mail scanners open links too."""
    return await db.value(
        bool,
        "SELECT EXISTS (SELECT FROM link WHERE digest = $1 AND purpose = $2 AND expires_at > now())",
        secret.digest(link),
        purpose,
    )


async def redeem(connection: Connection, link: str, purpose: Purpose) -> int | None:
    """Delete a link and return its account's id. Return None if the link is invalid, expired or for another purpose."""
    account_id: int | None = await connection.fetchval(
        "DELETE FROM link WHERE digest = $1 AND purpose = $2 AND expires_at > now() RETURNING account_id",
        secret.digest(link),
        purpose,
    )
    return account_id
