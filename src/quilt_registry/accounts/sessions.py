"""Sessions: the tokens that sign-ins issue, and what a token that was sent stands for."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import secret
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.monitoring import logs

TOKEN_LIFE = timedelta(days=90)


# A renewed token lives on for a moment, so that two runs of a client that renew at once both succeed.
RENEWED_LIFE = timedelta(minutes=1)


# `last used` is only as fine as this: most requests need not write.
NOTED_EVERY = timedelta(minutes=5)


class Token(Struct, frozen=True):
    """A sign-in, as the client holds it, and whose it is."""

    text: str
    expires_at: datetime
    account: Account


class Session(Struct, frozen=True):
    """What a token that was sent stands for. `personal`: made by hand for a machine, not by signing in."""

    account: Account
    token_id: int
    personal: bool
    read_only: bool


async def session_of(db: Database, token: str) -> Session | None:
    """What a token stands for; None if it is unknown, expired or revoked. The account may be inactive."""
    row = await db.fetchrow(
        """
        SELECT a.id, a.name, a.email, a.is_admin, a.is_active, t.id, t.name IS NOT NULL, t.read_only,
               t.last_used IS NULL OR t.last_used < now() - $2::interval
        FROM token t JOIN account a ON a.id = t.account_id
        WHERE t.digest = $1 AND t.expires_at > now()
        """,
        secret.digest(token),
        NOTED_EVERY,
    )
    if row is None:
        return None
    logs.note_user(row[1])
    if row[8]:
        await db.execute("UPDATE token SET last_used = now() WHERE id = $1", row[5])
    return Session(Account(*row[:5]), *row[5:8])


async def issue(connection: Connection, account: Account) -> Token:
    text = secret.generate()
    expires_at = await connection.fetchval(
        "INSERT INTO token (digest, account_id, expires_at) VALUES ($1, $2, now() + $3::interval) RETURNING expires_at",
        secret.digest(text), account.id, TOKEN_LIFE,
    )  # fmt: skip
    return Token(text, expires_at, account)


async def lock_account(connection: Connection, session: Session) -> None:
    """Hold the account of a session while something is issued for it; whoever revokes waits, and then revokes it, too.

    Raises SignInNeeded if the session was revoked in the meantime.
    """
    await connection.execute("SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", session.account.id)
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM token WHERE id = $1)", session.token_id):
        raise SignInNeeded("Token invalid.")


async def sign_out(db: Database, token: str) -> None:
    """Revoke this token and no other."""
    async with db.transaction() as connection:
        name = await connection.fetchval(
            "DELETE FROM token t USING account a WHERE digest = $1 AND a.id = t.account_id RETURNING a.name",
            secret.digest(token),
        )
        if name:
            await audit.record(connection, "SIGN_OUT", name)


async def revoke_all(connection: Connection, account_id: int) -> None:
    """Let no token and no code of an account work any more, personal tokens included."""
    await connection.execute("DELETE FROM token WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM code WHERE account_id = $1", account_id)
