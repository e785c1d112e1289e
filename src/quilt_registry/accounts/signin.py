"""Signing in: passwords, tokens, and the codes that carry a sign-in from the browser to a client.

Tokens and codes are random; the database holds their SHA-256 only.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from msgspec import Struct

from quilt_registry.accounts import passwords
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded

TOKEN_LIFE = timedelta(days=90)
CODE_LIFE = timedelta(minutes=10)
# A renewed token lives on for a moment, so that two runs of a client that renew at once both succeed.
RENEWED_LIFE = timedelta(minutes=1)


class Token(Struct, frozen=True):
    """A sign-in, as the client holds it."""

    text: str
    expires_at: datetime


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def account_of(db: Database, token: str) -> Account | None:
    """Whose token this is; None if it is unknown, expired or revoked. The account may be inactive."""
    row = await db.fetchrow(
        """
        SELECT a.id, a.name, a.email, a.is_admin, a.is_active
        FROM token t JOIN account a ON a.id = t.account_id
        WHERE t.digest = $1 AND t.expires_at > now()
        """,
        _digest(token),
    )
    return Account(*row) if row else None


async def sign_in(db: Database, name: str, password: str) -> Token:
    """Check a password and issue a token. Raises SignInNeeded, the same for every reason."""
    row = await db.fetchrow("SELECT id, password, is_active FROM account WHERE name = $1", name.replace("\0", " "))
    matches = await passwords.verify(password, row["password"] if row else None)
    if row is None or not matches or not row["is_active"]:
        raise SignInNeeded("Login attempt failed")
    async with db.transaction() as connection:
        await connection.execute("UPDATE account SET last_login = now() WHERE id = $1", row["id"])
        await connection.execute("DELETE FROM token WHERE expires_at < now()")
        return await _issue(connection, row["id"])


async def _issue(connection: Connection, account_id: int) -> Token:
    text = secrets.token_urlsafe(32)
    expires_at = await connection.fetchval(
        "INSERT INTO token (digest, account_id, expires_at) VALUES ($1, $2, now() + $3) RETURNING expires_at",
        _digest(text), account_id, TOKEN_LIFE,
    )  # fmt: skip
    return Token(text, expires_at)


async def refresh(db: Database, account: Account, token: str) -> Token:
    """A new token for the one used, which is revoked."""
    async with db.transaction() as connection:
        await connection.execute("DELETE FROM token WHERE digest = $1", _digest(token))
        return await _issue(connection, account.id)


async def sign_out(db: Database, token: str) -> None:
    """Revoke this token and no other."""
    await db.execute("DELETE FROM token WHERE digest = $1", _digest(token))


async def new_code(db: Database, account: Account) -> str:
    """A code that can be exchanged once for a token, within ten minutes. Several may be alive at once."""
    code = secrets.token_hex(16)  # a double click selects all of it
    async with db.transaction() as connection:
        await connection.execute("DELETE FROM code WHERE expires_at < now() - $1::interval", CODE_LIFE)
        await connection.execute(
            "INSERT INTO code (digest, account_id, expires_at) VALUES ($1, $2, now() + $3)",
            _digest(code),
            account.id,
            CODE_LIFE,
        )
    return code


async def exchange(db: Database, secret: str) -> Token:
    """A new token for a code, which is spent, or for a token, which is about to end. Raises SignInNeeded."""
    async with db.transaction() as connection:
        row = await connection.fetchrow(
            "DELETE FROM code WHERE digest = $1 RETURNING account_id, expires_at > now() AS alive", _digest(secret)
        )
        if row and not row["alive"]:
            raise SignInNeeded("Code invalid")
        account_id = row["account_id"] if row else await _renew(connection, secret)
        if account_id is None or not await connection.fetchval(
            "SELECT is_active FROM account WHERE id = $1", account_id
        ):
            raise SignInNeeded("Token invalid.")
        return await _issue(connection, account_id)


async def _renew(connection: Connection, token: str) -> int | None:
    return await connection.fetchval(  # type: ignore[no-any-return]
        """
        UPDATE token SET expires_at = least(expires_at, now() + $2)
        WHERE digest = $1 AND expires_at > now() RETURNING account_id
        """,
        _digest(token), RENEWED_LIFE,
    )  # fmt: skip
