"""Tokens of a user: those issued at sign-in, and personal access tokens, which have a name and may be read-only."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import rights, secret
from quilt_registry.accounts.sessions import Session, lock_account
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid, NotFound

MAX_NAME_LENGTH = 64  # characters
MAX_LIFETIME_DAYS = 365
MAX_TOKENS_PER_ACCOUNT = 50  # personal tokens


class NameTaken(Conflict):
    """Another token of the account has the name."""

    def __init__(self, name: str):
        super().__init__(f"You already have a token named {name!r}.")


class TokenInfo(Struct):
    """A token without its secret. `name` is None if it was issued at sign-in. `current`: this request uses it."""

    id: int
    name: str | None
    read_only: bool
    created: datetime
    last_used: datetime | None
    expires: datetime
    current: bool


class NewToken(Struct):
    """A new personal token. The secret `token` is shown only once."""

    id: int
    name: str
    token: str
    read_only: bool
    expires: datetime


async def create(db: Database, session: Session, name: str, days: int, *, read_only: bool) -> NewToken:
    """Create a personal token. Raise Invalid, Conflict, or Forbidden if the session uses a personal token."""
    rights.check_create_token(session)
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise Invalid(f"A token name must have 1 to {MAX_NAME_LENGTH} characters, without surrounding spaces.")
    if not 1 <= days <= MAX_LIFETIME_DAYS:
        raise Invalid(f"A token can be valid for 1 to {MAX_LIFETIME_DAYS} days.")
    text = secret.generate()
    async with db.transaction() as connection:
        await lock_account(connection, session)
        await connection.execute("DELETE FROM token WHERE account_id = $1 AND expires_at < now()", session.account.id)
        if await connection.fetchval(
            "SELECT count(*) >= $2 FROM token WHERE account_id = $1 AND name IS NOT NULL",
            session.account.id,
            MAX_TOKENS_PER_ACCOUNT,
        ):
            raise Conflict(
                f"An account can have at most {MAX_TOKENS_PER_ACCOUNT} personal tokens. Revoke one that you do not use."
            )
        try:
            row = await connection.fetchrow(
                """
                INSERT INTO token (digest, account_id, purpose, name, read_only, expires_at)
                VALUES ($1, $2, 'client', $3, $4, now() + $5::interval) RETURNING id, expires_at
                """,
                secret.digest(text), session.account.id, name, read_only, timedelta(days=days),
            )  # fmt: skip
        except asyncpg.UniqueViolationError:
            raise NameTaken(name) from None
        assert row is not None
        await audit.record(connection, "TOKEN_CREATE", session.account.name, name=name, id=row["id"])
    return NewToken(row["id"], name, text, read_only, row["expires_at"])


async def list_tokens(db: Database, session: Session) -> list[TokenInfo]:
    """Return the active tokens of the session's account, newest first."""
    rows = await db.fetch(
        """
        SELECT id, name, read_only, created_at, last_used, expires_at, id = $2
        FROM token WHERE account_id = $1 AND expires_at > now() ORDER BY id DESC
        """,
        session.account.id,
        session.token_id,
    )
    return [TokenInfo(*row) for row in rows]


async def list_personal(db: Database, session: Session) -> list[TokenInfo]:
    """Return the active personal tokens of the session's account, newest first."""
    return [token for token in await list_tokens(db, session) if token.name is not None]


async def find(db: Database, session: Session, token_id: int) -> TokenInfo:
    """Return an active token of the session's account. Raise NotFound."""
    found = [token for token in await list_tokens(db, session) if token.id == token_id]
    if not found:
        raise NotFound("There is no such token.")
    return found[0]


def parse_id(text: str) -> int:
    """Return the ID in a URL. Raise NotFound."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound("There is no such token.")
    return int(text)


async def revoke(db: Database, session: Session, token_id: int) -> None:
    """Revoke a token of the session's account. Raise NotFound or Forbidden."""
    rights.check_revoke_token(session, token_id)
    async with db.transaction() as connection:
        row = await connection.fetchrow(
            "DELETE FROM token WHERE account_id = $1 AND id = $2 RETURNING id, name", session.account.id, token_id
        )
        if row is None:
            raise NotFound("There is no such token.")
        extra = {"name": row["name"], "id": row["id"]}
        await audit.record(connection, "TOKEN_REVOKE", session.account.name, **extra)
