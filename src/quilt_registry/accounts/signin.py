"""Sign-in with a password."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec import Struct

from quilt_registry import audit, rate_limits
from quilt_registry.accounts import passwords
from quilt_registry.accounts.sessions import Origin, Session, Token, issue
from quilt_registry.accounts.users import Account
from quilt_registry.database import Database
from quilt_registry.errors import Invalid, SignInNeeded, TooMany
from quilt_registry.rate_limits import RateLimits

# From where a user signed in lately, others cannot lock that user out.
FAMILIAR, MAX_FAMILIAR = timedelta(days=30), 1000  # sign-ins


class Attempt(Struct, frozen=True):
    """An attempt to sign in: a name, a password, the client IP as rate limits count it, and what the token is for."""

    name: str
    password: str
    client_ip: str
    origin: Origin


async def sign_in(db: Database, limits: RateLimits, attempt: Attempt) -> Token:
    """Check a password and issue a token. Raise TooMany, Invalid or SignInNeeded.

    SignInNeeded has the same text and takes the same time for every reason, so that it reveals nothing about accounts.
    """
    checked = await check_password(db, limits, attempt)
    async with db.transaction() as connection:
        updated = await connection.fetchval(
            """
            UPDATE account SET last_login = now(), password = $3
            WHERE id = $1 AND is_active AND password = $2 RETURNING true
            """,
            checked.account.id, checked.old_hash, checked.new_hash,
        )  # fmt: skip
        if not updated:  # The password was changed or the account disabled since the password was checked.
            raise SignInNeeded("Login attempt failed")
        extra: dict[str, Any] = {"with": "password", "address": attempt.client_ip}
        await audit.record(connection, "SIGN_IN", checked.account.name, **extra)
        return await issue(connection, checked.account, attempt.origin)


async def confirm(db: Database, limits: RateLimits, session: Session, attempt: Attempt) -> None:
    """Check the password of a session again, and remember that. Raise TooMany or SignInNeeded."""
    await check_password(db, limits, attempt)
    await db.execute("UPDATE token SET confirmed_at = now() WHERE id = $1", session.token_id)


class CheckedPassword(Struct, frozen=True):
    """An account whose password was right. `new_hash` differs from the stored one if that is of an old kind."""

    account: Account
    old_hash: str
    new_hash: str


async def check_password(db: Database, limits: RateLimits, attempt: Attempt) -> CheckedPassword:
    """Check a password. Raise TooMany, Invalid or SignInNeeded, as `sign_in` does."""
    if "\0" in attempt.name:
        raise Invalid("The username contains a NUL character.")
    await _hit(db, limits, attempt)
    row = await db.fetchrow(
        "SELECT id, name, email, is_admin, is_active, password FROM account WHERE name = $1", attempt.name
    )
    matches = await passwords.verify(attempt.password, row["password"] if row else None)
    if row is None or not matches or not row["is_active"]:
        # An unknown name is not recorded, because it may be a password typed into the wrong field.
        name = row["name"] if row else None
        await audit.record(db, "SIGN_IN_FAILED", None, subject=name, address=attempt.client_ip)
        raise SignInNeeded("Login attempt failed")
    await _refund(limits, attempt)
    old_hash = row["password"]
    new_hash = await passwords.rehash(attempt.password) if passwords.needs_rehash(old_hash) else old_hash
    return CheckedPassword(Account(*row[:5]), old_hash, new_hash)


async def _hit(db: Database, limits: RateLimits, attempt: Attempt) -> None:
    """Count an attempt. Raise TooMany if there were too many for this account, from this IP, or of both together.

    Other people can exhaust the first two, so they do not hold for a user who signed in lately from the same place:
    only the attempts on this account from there count.
    """
    await limits.hit(rate_limits.SIGN_IN_PAIR, attempt.name, attempt.client_ip)
    refusal = None
    for rule, subject in _shared_limits(attempt):
        try:
            await limits.hit(rule, subject)
        except TooMany as error:
            refusal = error
    if refusal and not await _is_familiar(db, attempt):
        raise refusal


async def _refund(limits: RateLimits, attempt: Attempt) -> None:
    await limits.refund(rate_limits.SIGN_IN_PAIR, attempt.name, attempt.client_ip)
    for rule, subject in _shared_limits(attempt):
        await limits.refund(rule, subject)


def _shared_limits(attempt: Attempt) -> list[tuple[rate_limits.Rule, str]]:
    return [(rate_limits.SIGN_IN_ACCOUNT, attempt.name), (rate_limits.SIGN_IN_IP, attempt.client_ip)]


async def _is_familiar(db: Database, attempt: Attempt) -> bool:
    """Return whether the user signed in lately from the same place."""
    return await db.value(
        bool,
        """
        SELECT EXISTS (SELECT FROM (
            SELECT extra ->> 'address' AS client_ip FROM event
            WHERE kind = 'SIGN_IN' AND account = $1 AND created_at > now() - $2::interval
            ORDER BY created_at DESC LIMIT $4
        ) latest WHERE client_ip = $3)
        """,
        attempt.name, FAMILIAR, attempt.client_ip, MAX_FAMILIAR,
    )  # fmt: skip
