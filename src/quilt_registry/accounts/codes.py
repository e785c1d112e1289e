"""Codes that carry a sign-in from the browser to a client."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from quilt_registry import audit
from quilt_registry.accounts import rights, secret
from quilt_registry.accounts.sessions import RENEWED_LIFE, Session, Token, issue, lock_account
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded

CODE_LIFE = timedelta(minutes=10)


async def new_code(db: Database, session: Session) -> str:
    """A code that can be exchanged once for a token, within ten minutes. Several may be alive at once.

    Raises Forbidden for a personal token: it would become a sign-in that can do more and lives on.
    """
    rights.check_issue_code(session)
    code = secrets.token_hex(16)  # a double click selects all of it
    async with db.transaction() as connection:
        await lock_account(connection, session)
        await connection.execute(
            "INSERT INTO code (digest, account_id, expires_at) VALUES ($1, $2, now() + $3::interval)",
            secret.digest(code), session.account.id, CODE_LIFE,
        )  # fmt: skip
    return code


async def exchange(db: Database, text: str) -> Token:
    """A new token for a code, which is spent, or for a token, which is about to end. Raises SignInNeeded."""
    digest = secret.digest(text)
    async with db.transaction() as connection:
        account = await _hold_owner(connection, digest)
        alive = await connection.fetchval("DELETE FROM code WHERE digest = $1 RETURNING expires_at > now()", digest)
        if alive is False:
            raise SignInNeeded("Code invalid")
        if account is None or not (alive or await _renew(connection, digest)):
            raise SignInNeeded("Token invalid.")
        if alive:
            extra: dict[str, Any] = {"with": "code"}
            await audit.record(connection, "SIGN_IN", account.name, **extra)
        return await issue(connection, account)


async def _hold_owner(connection: Connection, digest: bytes) -> Account | None:
    """The active account of a code or token, held before these are touched, in the order of whoever revokes them."""
    row = await connection.fetchrow(
        """
        SELECT id, name, email, is_admin, is_active FROM account WHERE is_active AND id IN
            (SELECT account_id FROM code WHERE digest = $1 UNION ALL SELECT account_id FROM token WHERE digest = $1)
        FOR NO KEY UPDATE
        """,
        digest,
    )
    return Account(*row) if row else None


async def _renew(connection: Connection, digest: bytes) -> bool:
    """Let a sign-in's token end soon; False if it is no such token, or a personal one, which is not renewed."""
    renewed: bool | None = await connection.fetchval(
        """
        UPDATE token SET expires_at = least(expires_at, now() + $2::interval)
        WHERE digest = $1 AND expires_at > now() AND name IS NULL RETURNING true
        """,
        digest, RENEWED_LIFE,
    )  # fmt: skip
    return renewed is True


async def refresh(db: Database, session: Session) -> Token:
    """A new token for the one used, which is revoked. Raises Forbidden for a personal one, SignInNeeded."""
    rights.check_renew(session)
    async with db.transaction() as connection:
        await lock_account(connection, session)
        await connection.execute("DELETE FROM token WHERE id = $1", session.token_id)
        return await issue(connection, session.account)
