"""Tokens as their owner sees them: sign-ins, and personal ones for machines, with a name, an end and fewer rights."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import rights, secret
from quilt_registry.accounts.sessions import Session, lock_account
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid, NotFound

LONGEST_NAME, LONGEST_LIFE, MOST = 64, 365, 50  # characters, days, personal tokens of an account


class TokenInfo(Struct):
    """A token, without its text. `name` is None for a sign-in; `current` is the one that asks."""

    id: int
    name: str | None
    read_only: bool
    created: datetime
    last_used: datetime | None
    expires: datetime
    current: bool


class NewToken(Struct):
    """A new personal token. `token` is shown this once."""

    id: int
    name: str
    token: str
    read_only: bool
    expires: datetime


async def create(db: Database, session: Session, name: str, days: int, *, read_only: bool) -> NewToken:
    """Make a personal token. Raises Invalid, Conflict, and Forbidden for who uses a personal token themselves."""
    rights.check_create_token(session)
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise Invalid(f"A token's name has 1 to {LONGEST_NAME} characters, without blanks around them.")
    if not 1 <= days <= LONGEST_LIFE:
        raise Invalid(f"A token lives 1 to {LONGEST_LIFE} days.")
    text = secret.generate()
    async with db.transaction() as connection:
        await lock_account(connection, session)
        await connection.execute("DELETE FROM token WHERE account_id = $1 AND expires_at < now()", session.account.id)
        if await connection.fetchval(
            "SELECT count(*) >= $2 FROM token WHERE account_id = $1 AND name IS NOT NULL", session.account.id, MOST
        ):
            raise Conflict(f"An account has at most {MOST} personal tokens. Revoke one that is not used.")
        try:
            row = await connection.fetchrow(
                """
                INSERT INTO token (digest, account_id, name, read_only, expires_at)
                VALUES ($1, $2, $3, $4, now() + $5::interval) RETURNING id, expires_at
                """,
                secret.digest(text), session.account.id, name, read_only, timedelta(days=days),
            )  # fmt: skip
        except asyncpg.UniqueViolationError:
            raise Conflict(f"You have a token with the name {name!r} already.") from None
        assert row is not None
        await audit.record(connection, "TOKEN_CREATE", session.account.name, name=name, id=row["id"])
    return NewToken(row["id"], name, text, read_only, row["expires_at"])


async def of_account(db: Database, session: Session) -> list[TokenInfo]:
    """All live tokens of whoever asks, the newest first."""
    rows = await db.fetch(
        """
        SELECT id, name, read_only, created_at, last_used, expires_at, id = $2
        FROM token WHERE account_id = $1 AND expires_at > now() ORDER BY id DESC
        """,
        session.account.id,
        session.token_id,
    )
    return [TokenInfo(*row) for row in rows]


async def revoke(db: Database, session: Session, token_id: int) -> None:
    """End one of one's own tokens at once; a personal one can end only itself. Raises NotFound, Forbidden."""
    rights.check_revoke_token(session, token_id)
    async with db.transaction() as connection:
        row = await connection.fetchrow(
            "DELETE FROM token WHERE account_id = $1 AND id = $2 RETURNING id, name", session.account.id, token_id
        )
        if row is None:
            raise NotFound("There is no such token.")
        extra = {"name": row["name"], "id": row["id"]}
        await audit.record(connection, "TOKEN_REVOKE", session.account.name, **extra)
