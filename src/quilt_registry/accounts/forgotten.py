"""A new password by a link in a letter, for people who forgot theirs or never had one."""

from __future__ import annotations

import asyncio

from quilt_registry import events, letters, limits
from quilt_registry.accounts import links, passwords, signin, signup
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.letters import Site
from quilt_registry.limits import Limits

ANSWER_AFTER = 0.3  # seconds; longer than the work takes


async def ask(db: Database, site: Site, limited: Limits, email: str, address: str) -> None:
    """Mail a link if the mail address is some account's. Answers alike and equally late if it is not.

    `address` is where the caller is. Raises TooMany by that address only: by account it would tell that there is one.
    """
    await limited.take(limits.RESET, address)
    await asyncio.gather(_write(db, site, limited, email), asyncio.sleep(ANSWER_AFTER))


async def _write(db: Database, site: Site, limited: Limits, email: str) -> None:
    row = await db.fetchrow(
        "SELECT id, name, email, is_admin, is_active FROM account WHERE lower(email) = lower($1)",
        email.replace("\0", " "),
    )
    if row is None:
        return
    account = Account(*row)
    if not await limited.allows(limits.RESET_LETTER, account.name):
        return
    async with db.transaction() as connection:
        await write_link(connection, site, account)
        await signup.write_again(connection, site, account)
        await events.record(connection, "PASSWORD_RESET", None, subject=account.name)


async def write_link(connection: Connection, site: Site, account: Account) -> None:
    """Mail a link that chooses a password; it makes an older one void."""
    await links.void(connection, account.id, "reset")
    link = await links.new(connection, account.id, "reset")
    await letters.reset(connection, site, account.name, account.email, link)


async def change_password(db: Database, link: str, password: str) -> None:
    """Choose a password by a link, which is spent, and end all tokens and codes of the account.

    Raises Invalid for a bad password (the link stays good) and SignInNeeded for a bad link. An account that is not
    active stays so.
    """
    passwords.check(password)
    refusal = SignInNeeded("Reset token invalid")
    if not await links.is_good(db, link, "reset"):  # before the work that hashing is
        raise refusal
    digest = await passwords.hash(password)
    async with db.transaction() as connection:
        account_id = await links.spend(connection, link, "reset")
        if account_id is None:
            raise refusal
        name = await connection.fetchval(
            "UPDATE account SET password = $2 WHERE id = $1 RETURNING name", account_id, digest
        )
        await signin.revoke_all(connection, account_id)
        await events.record(connection, "PASSWORD_CHANGE", name, subject=name)
