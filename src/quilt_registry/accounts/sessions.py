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
# A session of a page also ends if it was not used for so long.
IDLE_LIFETIME = timedelta(days=14)
# For so long after the password was checked, a session may do what a stolen one must not.
CONFIRMED_LIFETIME = timedelta(minutes=15)
# A renewed token stays valid for a moment, so that two processes of a client that renew it at once both succeed.
RENEWED_TOKEN_LIFETIME = timedelta(minutes=1)
# `last_used` is no more precise than this, so that most requests need not write.
LAST_USED_INTERVAL = timedelta(minutes=5)


class Origin(Struct, frozen=True):
    """What made a session: a page, a client with a code of a page, or one with a password. None: unknown.

    `browser`: the name of a page's browser.
    """

    made_by: Literal["page", "code", "api"] | None = None
    browser: str = ""

    @property
    def purpose(self) -> Purpose:
        return "page" if self.made_by == "page" else "client"


class Token(Struct, frozen=True):
    """An issued token and its account."""

    text: str
    expires_at: datetime
    account: Account


class Session(Struct, frozen=True):
    """A valid token of a request. `personal`: a personal access token, as opposed to one issued at sign-in.

    `confirmed`: the password was checked within CONFIRMED_LIFETIME.
    """

    account: Account
    token_id: int
    personal: bool
    read_only: bool
    confirmed: bool = False


async def find_session(db: Database, token: str, purpose: Purpose | None) -> Session | None:
    """Return the session of a token, or None if it is unknown, expired or revoked. Its account may be inactive.

    Tokens of the release before purposes have none and work everywhere, until they expire. `purpose` None finds only
    those.
    """
    row = await db.fetchrow(
        """
        SELECT a.id, a.name, a.email, a.is_admin, a.is_active, t.id, t.name IS NOT NULL, t.read_only,
               coalesce(t.confirmed_at, t.created_at) > now() - $4::interval,
               t.last_used IS NULL OR t.last_used < now() - $2::interval
        FROM token t JOIN account a ON a.id = t.account_id
        WHERE t.digest = $1 AND t.expires_at > now() AND (t.purpose IS NULL OR t.purpose = $3)
            AND (t.purpose IS DISTINCT FROM 'page' OR coalesce(t.last_used, t.created_at) > now() - $5::interval)
        """,
        secret.digest(token), LAST_USED_INTERVAL, purpose, CONFIRMED_LIFETIME, IDLE_LIFETIME,
    )  # fmt: skip
    if row is None:
        return None
    logs.note_user(row[1])
    if row[9]:
        await db.execute("UPDATE token SET last_used = now() WHERE id = $1", row[5])
    return Session(Account(*row[:5]), *row[5:9])


async def issue(connection: Connection, account: Account, origin: Origin) -> Token:
    """Create a token for an account."""
    text = secret.generate()
    expires_at = await connection.fetchval(
        """
        INSERT INTO token (digest, account_id, purpose, made_by, browser, expires_at)
        VALUES ($1, $2, $3, $4, nullif($5, ''), now() + $6::interval) RETURNING expires_at
        """,
        secret.digest(text), account.id, origin.purpose, origin.made_by, origin.browser, TOKEN_LIFETIME,
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


class SessionInfo(Struct, frozen=True):
    """A session in a list. `current`: this request uses it."""

    id: int
    origin: Origin
    created: datetime
    last_used: datetime | None
    current: bool


async def list_sessions(db: Database, session: Session) -> list[SessionInfo]:
    """Return the sessions of an account in browsers and clients, the latest used first, without personal tokens."""
    rows = await db.fetch(
        """
        SELECT id, coalesce(made_by, CASE purpose WHEN 'page' THEN 'page' END), coalesce(browser, ''),
               created_at, last_used, id = $2
        FROM token WHERE account_id = $1 AND name IS NULL AND expires_at > now()
            AND (purpose IS DISTINCT FROM 'page' OR coalesce(last_used, created_at) > now() - $3::interval)
        ORDER BY id = $2 DESC, coalesce(last_used, created_at) DESC, id DESC
        """,
        session.account.id, session.token_id, IDLE_LIFETIME,
    )  # fmt: skip
    return [SessionInfo(row[0], Origin(*row[1:3]), *row[3:]) for row in rows]


async def revoke_others(db: Database, session: Session, *, only_browsers: bool) -> int:
    """Revoke all tokens of an account but that of this session, or only the sessions of other browsers.

    Revoke unused codes too. Return the number of tokens.
    """
    async with db.transaction() as connection:
        await lock_account(connection, session)
        rows = await connection.fetch(
            "DELETE FROM token WHERE account_id = $1 AND id <> $2 AND (NOT $3 OR purpose = 'page') RETURNING id",
            session.account.id, session.token_id, only_browsers,
        )  # fmt: skip
        await connection.execute("DELETE FROM code WHERE account_id = $1", session.account.id)
        if rows:
            extra: dict[str, Any] = {"others": True, "tokens": len(rows)}
            await audit.record(connection, "SIGN_OUT", session.account.name, subject=session.account.name, **extra)
        return len(rows)


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
