"""Signing in: passwords, tokens, and the codes that carry a sign-in from the browser to a client."""

from __future__ import annotations

from typing import Any

from quilt_registry import audit, rate_limits
from quilt_registry.accounts import passwords
from quilt_registry.accounts.sessions import Token, issue
from quilt_registry.accounts.users import Account
from quilt_registry.database import Database
from quilt_registry.errors import Invalid, SignInNeeded
from quilt_registry.rate_limits import RateLimits

# ------------------------------------------------------------------------------------------------ with a password


async def sign_in(db: Database, limits: RateLimits, name: str, password: str, client_ip: str) -> Token:
    """Check a password and issue a token; `address` is where the caller is. Raises SignInNeeded, the same for every
    reason and equally slow; TooMany, Invalid.
    """
    if "\0" in name:
        raise Invalid("The user name holds a NUL character.")
    for rule, subject in _guesses(name, client_ip):
        await limits.hit(rule, *subject)
    row = await db.fetchrow("SELECT id, name, email, is_admin, is_active, password FROM account WHERE name = $1", name)
    matches = await passwords.verify(password, row["password"] if row else None)
    if row is None or not matches or not row["is_active"]:
        # An unknown name is not noted: it may be a password that was typed into the wrong field.
        await audit.record(db, "SIGN_IN_FAILED", None, subject=row["name"] if row else None, address=client_ip)
        raise SignInNeeded("Login attempt failed")
    for rule, subject in _guesses(name, client_ip):
        await limits.refund(rule, *subject)
    account, kept = Account(*row[:5]), row["password"]
    renewed = await passwords.keep(password) if passwords.is_outdated(kept) else kept
    return await _signed_in(db, account, kept, renewed, client_ip)


def _guesses(name: str, client_ip: str) -> list[tuple[rate_limits.Rule, tuple[str, ...]]]:
    return [
        (rate_limits.SIGN_IN_PAIR, (name, client_ip)),
        (rate_limits.SIGN_IN_ACCOUNT, (name,)),
        (rate_limits.SIGN_IN_ADDRESS, (client_ip,)),
    ]


async def _signed_in(db: Database, account: Account, kept: str, renewed: str, client_ip: str) -> Token:
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
        extra: dict[str, Any] = {"with": "password", "address": client_ip}
        await audit.record(connection, "SIGN_IN", account.name, **extra)
        return await issue(connection, account)


# ------------------------------------------------------------------------------------------------ with a token or code
