"""Signing in: passwords, tokens, and the codes that carry a sign-in from the browser to a client."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from msgspec import Struct

from quilt_registry import events, limits, logs
from quilt_registry.accounts import passwords, secret
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Forbidden, Invalid, SignInNeeded
from quilt_registry.limits import Limits

TOKEN_LIFE = timedelta(days=90)
CODE_LIFE = timedelta(minutes=10)
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


# ------------------------------------------------------------------------------------------------ with a password


async def sign_in(db: Database, limited: Limits, name: str, password: str, address: str) -> Token:
    """Check a password and issue a token; `address` is where the caller is. Raises SignInNeeded, the same for every
    reason and equally slow; TooMany, Invalid.
    """
    if "\0" in name:
        raise Invalid("The user name holds a NUL character.")
    for rule, subject in _guesses(name, address):
        await limited.take(rule, *subject)
    row = await db.fetchrow("SELECT id, name, email, is_admin, is_active, password FROM account WHERE name = $1", name)
    matches = await passwords.verify(password, row["password"] if row else None)
    if row is None or not matches or not row["is_active"]:
        # An unknown name is not noted: it may be a password that was typed into the wrong field.
        await events.record(
            db, "SIGN_IN_FAILED", None, subject=row["name"] if row else None, extra={"address": address}
        )
        raise SignInNeeded("Login attempt failed")
    for rule, subject in _guesses(name, address):
        await limited.give_back(rule, *subject)
    account, kept = Account(*row[:5]), row["password"]
    renewed = await passwords.keep(password) if passwords.is_outdated(kept) else kept
    return await _signed_in(db, account, kept, renewed, address)


def _guesses(name: str, address: str) -> list[tuple[limits.Rule, tuple[str, ...]]]:
    return [
        (limits.SIGN_IN_PAIR, (name, address)),
        (limits.SIGN_IN_ACCOUNT, (name,)),
        (limits.SIGN_IN_ADDRESS, (address,)),
    ]


async def _signed_in(db: Database, account: Account, kept: str, renewed: str, address: str) -> Token:
    """Issue a token, unless the password that matched was changed, or the account disabled, in the meantime."""
    async with db.transaction() as connection:
        held = await connection.fetchval(
            """
            UPDATE account SET last_login = now(), password = $3
            WHERE id = $1 AND is_active AND password = $2 RETURNING true
            """,
            account.id, kept, renewed,
        )  # fmt: skip
        if not held:
            raise SignInNeeded("Login attempt failed")
        await events.record(connection, "SIGN_IN", account.name, extra={"with": "password", "address": address})
        return await _issue(connection, account)


async def _issue(connection: Connection, account: Account) -> Token:
    text = secret.make()
    expires_at = await connection.fetchval(
        "INSERT INTO token (digest, account_id, expires_at) VALUES ($1, $2, now() + $3::interval) RETURNING expires_at",
        secret.digest(text), account.id, TOKEN_LIFE,
    )  # fmt: skip
    return Token(text, expires_at, account)


# ------------------------------------------------------------------------------------------------ with a token or code


async def hold(connection: Connection, session: Session) -> None:
    """Hold the account of a session while something is issued for it; whoever revokes waits, and then revokes it, too.

    Raises SignInNeeded if the session was revoked in the meantime.
    """
    await connection.execute("SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", session.account.id)
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM token WHERE id = $1)", session.token_id):
        raise SignInNeeded("Token invalid.")


async def refresh(db: Database, session: Session) -> Token:
    """A new token for the one used, which is revoked. Raises Forbidden for a personal one, SignInNeeded."""
    if session.personal:
        raise Forbidden("A personal token cannot be renewed. Make a new one.")
    async with db.transaction() as connection:
        await hold(connection, session)
        await connection.execute("DELETE FROM token WHERE id = $1", session.token_id)
        return await _issue(connection, session.account)


async def sign_out(db: Database, token: str) -> None:
    """Revoke this token and no other."""
    async with db.transaction() as connection:
        name = await connection.fetchval(
            "DELETE FROM token t USING account a WHERE digest = $1 AND a.id = t.account_id RETURNING a.name",
            secret.digest(token),
        )
        if name:
            await events.record(connection, "SIGN_OUT", name)


async def new_code(db: Database, session: Session) -> str:
    """A code that can be exchanged once for a token, within ten minutes. Several may be alive at once.

    Raises Forbidden for a personal token: it would become a sign-in that can do more and lives on.
    """
    if session.personal:
        raise Forbidden("A personal token cannot sign a client in. Use it as it is, or sign in with the password.")
    code = secrets.token_hex(16)  # a double click selects all of it
    async with db.transaction() as connection:
        await hold(connection, session)
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
            await events.record(connection, "SIGN_IN", account.name, extra={"with": "code"})
        return await _issue(connection, account)


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
    return await connection.fetchval(  # type: ignore[no-any-return]
        """
        UPDATE token SET expires_at = least(expires_at, now() + $2::interval)
        WHERE digest = $1 AND expires_at > now() AND name IS NULL RETURNING true
        """,
        digest, RENEWED_LIFE,
    )  # fmt: skip


async def revoke_all(connection: Connection, account_id: int) -> None:
    """Let no token and no code of an account work any more, personal tokens included."""
    await connection.execute("DELETE FROM token WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM code WHERE account_id = $1", account_id)
