"""A new password by a link in a letter, for people who forgot theirs or never had one."""

from __future__ import annotations

import asyncio

from quilt_registry import audit, rate_limits
from quilt_registry.accounts import email_links, passwords, sessions, signup
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site
from quilt_registry.rate_limits import RateLimits

ANSWER_AFTER = 0.3  # seconds; longer than the work takes


async def request(db: Database, site: Site, limits: RateLimits, email: str, client_ip: str) -> None:
    """Mail a link if the mail address is some account's. Answers alike and equally late if it is not.

    `address` is where the caller is. Raises TooMany by that address only: by account it would tell that there is one.
    """
    await limits.hit(rate_limits.RESET, client_ip)
    await asyncio.gather(_write(db, site, limits, email), asyncio.sleep(ANSWER_AFTER))


async def _write(db: Database, site: Site, limits: RateLimits, email: str) -> None:
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
    """Mail a link that chooses a password; it makes an older one void."""
    await email_links.revoke(connection, account.id, "reset")
    link = await email_links.create(connection, account.id, "reset")
    await emails.reset(connection, site, account.name, account.email, link)


async def change_password(db: Database, link: str, password: str) -> None:
    """Choose a password by a link, which is spent, and end all tokens and codes of the account.

    Raises Invalid for a bad password (the link stays good) and SignInNeeded for a bad link. An account that is not
    active stays so.
    """
    passwords.check(password)
    refusal = SignInNeeded("Reset token invalid")
    if not await email_links.is_valid(db, link, "reset"):  # before the work that hashing is
        raise refusal
    digest = await passwords.hash(password)
    async with db.transaction() as connection:
        account_id = await email_links.redeem(connection, link, "reset")
        if account_id is None:
            raise refusal
        name = await connection.fetchval(
            "UPDATE account SET password = $2 WHERE id = $1 RETURNING name", account_id, digest
        )
        await sessions.revoke_all(connection, account_id)
        await audit.record(connection, "PASSWORD_CHANGE", name, subject=name)
