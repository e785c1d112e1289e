"""Sessions: issuing, resolving and revoking tokens."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import secret
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import NotFound, SignInNeeded
from quilt_registry.monitoring import logs

Purpose = Literal["page", "client"]
"""What a token was issued for, and where alone it works: as a browser's cookie, or as a token of the API."""

TOKEN_LIFETIME = timedelta(days=90)
# A renewed token stays valid for a moment, so that two processes of a client that renew it at once both succeed.
RENEWED_TOKEN_LIFETIME = timedelta(minutes=1)
# `last_used` is no more precise than this, so that most requests need not write.
LAST_USED_INTERVAL = timedelta(minutes=5)


class Token(Struct, frozen=True):
    """An issued token and its account."""

    text: str
    expires_at: datetime
    account: Account


class Session(Struct, frozen=True):
    """A valid token of a request. `personal`: a personal access token, as opposed to one issued at sign-in."""

    account: Account
    token_id: int
    personal: bool
    read_only: bool


async def find_session(db: Database, token: str, purpose: Purpose | None) -> Session | None:
    """Return the session of a token, or None if it is unknown, expired or revoked. Its account may be inactive.

    Tokens of the release before purposes have none and work everywhere, until they expire. `purpose` None finds only
    those.
    """
    row = await db.fetchrow(
        """
        SELECT a.id, a.name, a.email, a.is_admin, a.is_active, t.id, t.name IS NOT NULL, t.read_only,
               t.last_used IS NULL OR t.last_used < now() - $2::interval
        FROM token t JOIN account a ON a.id = t.account_id
        WHERE t.digest = $1 AND t.expires_at > now() AND (t.purpose IS NULL OR t.purpose = $3)
        """,
        secret.digest(token), LAST_USED_INTERVAL, purpose,
    )  # fmt: skip
    if row is None:
        return None
    logs.note_user(row[1])
    if row[8]:
        await db.execute("UPDATE token SET last_used = now() WHERE id = $1", row[5])
    return Session(Account(*row[:5]), *row[5:8])


async def issue(connection: Connection, account: Account, purpose: Purpose) -> Token:
    """Create a token for an account."""
    text = secret.generate()
    expires_at = await connection.fetchval(
        """
        INSERT INTO token (digest, account_id, purpose, expires_at) VALUES ($1, $2, $3, now() + $4::interval)
        RETURNING expires_at
        """,
        secret.digest(text), account.id, purpose, TOKEN_LIFETIME,
    )  # fmt: skip
    return Token(text, expires_at, account)


async def lock_account(connection: Connection, session: Session) -> None:
    """Lock the account of a session while a credential is issued for it.

    A concurrent revocation waits for the lock, so that it revokes the new credential too. Raise SignInNeeded if the
    session has been revoked in the meantime.
    """
    await connection.execute("SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", session.account.id)
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM token WHERE id = $1)", session.token_id):
        raise SignInNeeded("Token invalid.")


async def sign_out(db: Database, session: Session) -> None:
    """Revoke the token of a session."""
    async with db.transaction() as connection:
        if await connection.fetchval("DELETE FROM token WHERE id = $1 RETURNING true", session.token_id):
            await audit.record(connection, "SIGN_OUT", session.account.name)


async def sign_out_everywhere(db: Database, name: str | None, *, personal_tokens: bool, by: str | None) -> list[str]:
    """End all sessions of an account, or of all accounts: in browsers and in clients. Revoke unused codes too.

    Return the names of the accounts that were signed in. `name` None: all accounts. `personal_tokens`: revoke those
    too. `by`: the user who does this; None for the operator. Raise NotFound.
    """
    async with db.transaction() as connection:
        accounts = await connection.fetch(
            "SELECT id, name FROM account WHERE $1::text IS NULL OR name = $1 ORDER BY id FOR NO KEY UPDATE", name
        )
        if name and not accounts:
            raise NotFound(f"There is no user {name!r}.")
        ids = [row["id"] for row in accounts]
        await connection.execute("DELETE FROM code WHERE account_id = ANY($1::bigint[])", ids)
        rows = await connection.fetch(
            "DELETE FROM token WHERE account_id = ANY($1::bigint[]) AND (name IS NULL OR $2) RETURNING account_id",
            ids, personal_tokens,
        )  # fmt: skip
        ended = Counter(row["account_id"] for row in rows)
        signed_out = {row["name"]: ended[row["id"]] for row in accounts if row["id"] in ended}
        for each, tokens in signed_out.items():
            extra: dict[str, Any] = {"everywhere": True, "tokens": tokens}
            await audit.record(connection, "SIGN_OUT", by, subject=each, **extra)
        return list(signed_out)


async def revoke_all(connection: Connection, account_id: int) -> None:
    """Revoke all tokens and codes of an account, including personal tokens."""
    await connection.execute("DELETE FROM token WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM code WHERE account_id = $1", account_id)
