"""Change of a password by a user who is signed in and knows the current one."""

from __future__ import annotations

from quilt_registry import audit
from quilt_registry.accounts import email_links, passwords, sessions, signin
from quilt_registry.accounts.sessions import Token
from quilt_registry.accounts.signin import Attempt
from quilt_registry.database import Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.rate_limits import RateLimits


async def change(db: Database, limits: RateLimits, attempt: Attempt, new_password: str) -> Token:
    """Set a new password, revoke all tokens, codes and reset links of the account, and return a new session.

    `attempt` has the current password. Raise Invalid for an unacceptable new password, SignInNeeded for a wrong
    current one, and TooMany.
    """
    passwords.check(new_password)
    checked = await signin.check_password(db, limits, attempt)
    account, new_hash = checked.account, await passwords.hash(new_password)
    async with db.transaction() as connection:
        updated = await connection.fetchval(
            "UPDATE account SET password = $3 WHERE id = $1 AND is_active AND password = $2 RETURNING true",
            account.id, checked.old_hash, new_hash,
        )  # fmt: skip
        if not updated:  # changed, or the account disabled, since the password was checked
            raise SignInNeeded("Login attempt failed")
        await sessions.revoke_all(connection, account.id)
        await email_links.revoke(connection, account.id, "reset")
        await audit.record(connection, "PASSWORD_CHANGE", account.name, subject=account.name)
        return await sessions.issue(connection, account, attempt.origin)
