"""Sessions: issuing, resolving and revoking tokens."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import secret
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.monitoring import logs

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


async def find_session(db: Database, token: str) -> Session | None:
    """Return the session of a token, or None if it is unknown, expired or revoked. Its account may be inactive."""
    row = await db.fetchrow(
        """
        SELECT a.id, a.name, a.email, a.is_admin, a.is_active, t.id, t.name IS NOT NULL, t.read_only,
               t.last_used IS NULL OR t.last_used < now() - $2::interval
        FROM token t JOIN account a ON a.id = t.account_id
        WHERE t.digest = $1 AND t.expires_at > now()
        """,
        secret.digest(token),
        LAST_USED_INTERVAL,
    )
    if row is None:
        return None
    logs.note_user(row[1])
    if row[8]:
        await db.execute("UPDATE token SET last_used = now() WHERE id = $1", row[5])
    return Session(Account(*row[:5]), *row[5:8])


async def issue(connection: Connection, account: Account) -> Token:
    """Create a token for an account."""
    text = secret.generate()
    expires_at = await connection.fetchval(
        "INSERT INTO token (digest, account_id, expires_at) VALUES ($1, $2, now() + $3::interval) RETURNING expires_at",
        secret.digest(text), account.id, TOKEN_LIFETIME,
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


async def sign_out(db: Database, token: str) -> None:
    """Revoke one token."""
    async with db.transaction() as connection:
        name = await connection.fetchval(
            "DELETE FROM token t USING account a WHERE digest = $1 AND a.id = t.account_id RETURNING a.name",
            secret.digest(token),
        )
        if name:
            await audit.record(connection, "SIGN_OUT", name)


async def revoke_all(connection: Connection, account_id: int) -> None:
    """Revoke all tokens and codes of an account, including personal tokens."""
    await connection.execute("DELETE FROM token WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM code WHERE account_id = $1", account_id)
