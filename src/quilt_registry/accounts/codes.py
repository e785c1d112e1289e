"""One-time codes that transfer a sign-in from the browser to a client, and the renewal of tokens."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from quilt_registry import audit
from quilt_registry.accounts import rights, secret
from quilt_registry.accounts.sessions import RENEWED_TOKEN_LIFETIME, Origin, Session, Token, issue, lock_account
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded

CODE_LIFETIME = timedelta(minutes=10)
MAX_CODES_PER_ACCOUNT = 5  # valid at a time


async def create_code(db: Database, session: Session) -> str:
    """Return a new code, which can be exchanged once for a token. The latest five codes of an account are valid.

    Raise Forbidden for a personal token: the code would turn it into a session with more rights and a longer life.
    """
    rights.check_issue_code(session)
    code = secrets.token_hex(16)  # hexadecimal, so that a double click selects all of it
    async with db.transaction() as connection:
        await lock_account(connection, session)
        await _delete_oldest(connection, session.account)
        await connection.execute(
            "INSERT INTO code (digest, account_id, expires_at) VALUES ($1, $2, now() + $3::interval)",
            secret.digest(code), session.account.id, CODE_LIFETIME,
        )  # fmt: skip
    return code


async def _delete_oldest(connection: Connection, account: Account) -> None:
    """Make room for a new code."""
    await connection.execute(
        """
        DELETE FROM code WHERE digest IN (
            SELECT digest FROM code WHERE account_id = $1 AND expires_at > now() ORDER BY expires_at DESC OFFSET $2)
        """,
        account.id, MAX_CODES_PER_ACCOUNT - 1,
    )  # fmt: skip


async def exchange(db: Database, code_or_token: str) -> Token:
    """Exchange a code, which is deleted, or a client's token, which expires soon, for a new token. Raise SignInNeeded.

    Spaces and line breaks around a code, or within one, come from copying it and do not count.
    """
    digest = secret.digest("".join(code_or_token.split()))
    async with db.transaction() as connection:
        account = await _lock_owner(connection, digest)
        is_valid_code = await connection.fetchval(
            "DELETE FROM code WHERE digest = $1 RETURNING expires_at > now()", digest
        )
        if is_valid_code is False:
            raise SignInNeeded("Code invalid")
        origin = Origin("code") if is_valid_code else await _expire_soon(connection, digest)
        if account is None or origin is None:
            raise SignInNeeded("Token invalid.")
        if is_valid_code:
            extra: dict[str, Any] = {"with": "code"}
            await audit.record(connection, "SIGN_IN", account.name, **extra)
        return await issue(connection, account, origin)


async def _lock_owner(connection: Connection, digest: bytes) -> Account | None:
    """Lock and return the active account of a code or token.

    The account is locked before its tokens, as in revocations, so that the two cannot deadlock.
    """
    row = await connection.fetchrow(
        """
        SELECT id, name, email, is_admin, is_active FROM account WHERE is_active AND id IN
            (SELECT account_id FROM code WHERE digest = $1 UNION ALL SELECT account_id FROM token WHERE digest = $1)
        FOR NO KEY UPDATE
        """,
        digest,
    )
    return Account(*row) if row else None


async def _expire_soon(connection: Connection, digest: bytes) -> Origin | None:
    """Let a renewed token expire soon, and return its origin. None for others: unknown, personal, or of a cookie."""
    row = await connection.fetchrow(
        """
        UPDATE token SET expires_at = least(expires_at, now() + $2::interval)
        WHERE digest = $1 AND expires_at > now() AND name IS NULL AND purpose IS DISTINCT FROM 'page' RETURNING made_by
        """,
        digest, RENEWED_TOKEN_LIFETIME,
    )  # fmt: skip
    return Origin(row["made_by"]) if row else None


async def refresh(db: Database, session: Session) -> Token:
    """Replace the token of a session, which is revoked, by a new one. Raise Forbidden for a personal token."""
    rights.check_renew(session)
    async with db.transaction() as connection:
        await lock_account(connection, session)
        made_by = await connection.fetchval("DELETE FROM token WHERE id = $1 RETURNING made_by", session.token_id)
        return await issue(connection, session.account, Origin(made_by))
