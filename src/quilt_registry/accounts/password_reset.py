"""Password reset by an emailed link, also for accounts that never had a password."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from quilt_registry import audit, rate_limits
from quilt_registry.accounts import email_links, passwords, secret, sessions, signup
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site
from quilt_registry.rate_limits import RateLimits

MIN_RESPONSE_TIME = 0.3  # seconds; longer than the work takes


async def request(db: Database, site: Site, limits: RateLimits, email: str, client_ip: str) -> None:
    """Email a reset link if an account has this email address. Otherwise return in the same way, equally late.

    Raise TooMany by client IP only, because a limit by account would reveal that the account exists.
    """
    await limits.hit(rate_limits.RESET, client_ip)
    await asyncio.gather(_send_if_known(db, site, limits, email), asyncio.sleep(MIN_RESPONSE_TIME))


async def _send_if_known(db: Database, site: Site, limits: RateLimits, email: str) -> None:
    row = await db.fetchrow(
        "SELECT id, name, email, is_admin, is_active FROM account WHERE lower(email) = lower($1)",
        email.replace("\0", " "),
    )
    if row is None:
        return
    account = Account(*row)
    if not await limits.allows(rate_limits.RESET_EMAIL, account.name):
        return
    async with db.transaction() as connection:
        await send_link(connection, site, account)
        await signup.resend_activation(connection, site, account)
        await audit.record(connection, "PASSWORD_RESET", None, subject=account.name)


async def send_link(connection: Connection, site: Site, account: Account) -> None:
    """Email a link to choose a password, and revoke earlier ones."""
    await email_links.revoke(connection, account.id, "reset")
    link = await email_links.create(connection, account.id, "reset")
    await emails.reset(connection, site, account.name, account.email, link)


class ResetLink(Struct, frozen=True):
    """A valid link. `is_new`: its account has not been used yet, so its user sets the first password."""

    name: str
    is_new: bool


async def find_link(db: Database, link: str) -> ResetLink | None:
    """Return a link without redeeming it, or None if it is invalid."""
    row = await db.fetchrow(
        """
        SELECT a.name, a.password IS NULL AND a.last_login IS NULL FROM link l JOIN account a ON a.id = l.account_id
        WHERE l.digest = $1 AND l.purpose = 'reset' AND l.expires_at > now()
        """,
        secret.digest(link),
    )
    return ResetLink(*row) if row else None


async def change_password(db: Database, link: str, password: str) -> None:
    """Redeem a link to set a password, and revoke all tokens and codes of the account. Inactive accounts stay so.

    This proves the email address, because only a reader of its mailbox has the link, and older passwords end.

    Raise Invalid for an unacceptable password, which does not redeem the link, and SignInNeeded for an invalid link.
    """
    passwords.check(password)
    invalid_link = SignInNeeded("Reset token invalid")
    if not await email_links.is_valid(db, link, "reset"):  # first, because hashing is expensive
        raise invalid_link
    password_hash = await passwords.hash(password)
    async with db.transaction() as connection:
        account_id = await email_links.redeem(connection, link, "reset")
        if account_id is None:
            raise invalid_link
        name = await connection.fetchval(
            "UPDATE account SET password = $2, email_proven = true WHERE id = $1 RETURNING name",
            account_id,
            password_hash,
        )
        await sessions.revoke_all(connection, account_id)
        await audit.record(connection, "PASSWORD_CHANGE", name, subject=name)
