"""Sign-in with a password."""

from __future__ import annotations

from typing import Any

from quilt_registry import audit, rate_limits
from quilt_registry.accounts import passwords
from quilt_registry.accounts.sessions import Token, issue
from quilt_registry.accounts.users import Account
from quilt_registry.database import Database
from quilt_registry.errors import Invalid, SignInNeeded
from quilt_registry.rate_limits import RateLimits


async def sign_in(db: Database, limits: RateLimits, name: str, password: str, client_ip: str) -> Token:
    """Check a password and issue a token. Raise TooMany, Invalid or SignInNeeded.

    SignInNeeded has the same text and takes the same time for every reason, so that it reveals nothing about accounts.
    """
    if "\0" in name:
        raise Invalid("The username contains a NUL character.")
    for rule, subject in _limits(name, client_ip):
        await limits.hit(rule, *subject)
    row = await db.fetchrow("SELECT id, name, email, is_admin, is_active, password FROM account WHERE name = $1", name)
    matches = await passwords.verify(password, row["password"] if row else None)
    if row is None or not matches or not row["is_active"]:
        # An unknown name is not recorded, because it may be a password typed into the wrong field.
        await audit.record(db, "SIGN_IN_FAILED", None, subject=row["name"] if row else None, address=client_ip)
        raise SignInNeeded("Login attempt failed")
    for rule, subject in _limits(name, client_ip):
        await limits.refund(rule, *subject)
    account, old_hash = Account(*row[:5]), row["password"]
    new_hash = await passwords.rehash(password) if passwords.needs_rehash(old_hash) else old_hash
    return await _issue(db, account, old_hash, new_hash, client_ip)


def _limits(name: str, client_ip: str) -> list[tuple[rate_limits.Rule, tuple[str, ...]]]:
    return [
        (rate_limits.SIGN_IN_PAIR, (name, client_ip)),
        (rate_limits.SIGN_IN_ACCOUNT, (name,)),
        (rate_limits.SIGN_IN_IP, (client_ip,)),
    ]


async def _issue(db: Database, account: Account, old_hash: str, new_hash: str, client_ip: str) -> Token:
    """Issue a token, unless the password was changed or the account disabled since the password was checked."""
    async with db.transaction() as connection:
        updated = await connection.fetchval(
            """
            UPDATE account SET last_login = now(), password = $3
            WHERE id = $1 AND is_active AND password = $2 RETURNING true
            """,
            account.id, old_hash, new_hash,
        )  # fmt: skip
        if not updated:
            raise SignInNeeded("Login attempt failed")
        extra: dict[str, Any] = {"with": "password", "address": client_ip}
        await audit.record(connection, "SIGN_IN", account.name, **extra)
        return await issue(connection, account)
