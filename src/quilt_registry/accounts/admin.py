"""What admins do with accounts. Each of these is in the audit, with the admin and whom it was done to."""

from __future__ import annotations

from quilt_registry import audit
from quilt_registry.accounts import email_links, password_reset, rights, sessions, users
from quilt_registry.accounts.users import Account, is_user_name
from quilt_registry.audit import Kind
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, NotFound
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site


async def create(db: Database, site: Site, admin: Account, name: str, email: str) -> None:
    """Make an active account without a password, and mail the link that chooses one. Raises Invalid, Conflict."""
    if not is_user_name(name):
        raise users.invalid_username()
    users.check(name, email)
    async with db.transaction() as connection:
        account_id = await users.insert(connection, name, email, None)
        link = await email_links.create(connection, account_id, "reset")
        await emails.welcome(connection, site, name, email, link)
        await audit.record(connection, "ACCOUNT_CREATE", admin.name, subject=name)


async def disable(db: Database, admin: Account, name: str) -> None:
    """End an account's sign-ins and let no new ones begin. Its packages stay. Raises Forbidden, NotFound, Conflict."""
    rights.check_disable(admin, name)
    async with db.transaction() as connection:
        await _hold_admins(connection, admin)
        account = await _change(
            connection, name, "is_active = false, awaits_activation = false", "User to disable not found"
        )
        await sessions.revoke_all(connection, account.id)
        await email_links.revoke(connection, account.id, "activation")
        await _done(connection, "ACCOUNT_DISABLE", admin, account)


async def enable(db: Database, admin: Account, name: str) -> None:
    """Let somebody sign in again, or for the first time without a letter. Raises NotFound."""
    async with db.transaction() as connection:
        account = await _change(
            connection, name, "is_active = true, awaits_activation = false", "User to enable not found"
        )
        await _done(connection, "ACCOUNT_ENABLE", admin, account)


async def grant_admin(db: Database, admin: Account, name: str) -> None:
    """Make somebody an admin. Raises NotFound."""
    async with db.transaction() as connection:
        account = await _change(connection, name, "is_admin = true", "User to make an admin not found")
        await _done(connection, "ADMIN_GRANT", admin, account)


async def revoke_admin(db: Database, admin: Account, name: str) -> None:
    """Let somebody be an admin no more. Raises Forbidden, NotFound, Conflict."""
    rights.check_revoke_admin(admin, name)
    async with db.transaction() as connection:
        await _hold_admins(connection, admin)
        account = await _change(connection, name, "is_admin = false", "User to revoke not found")
        await _done(connection, "ADMIN_REVOKE", admin, account)


async def reset_password(db: Database, site: Site, admin: Account, name: str) -> None:
    """Take somebody's password and sign-ins away, and mail a link that chooses a new one. Raises NotFound."""
    async with db.transaction() as connection:
        account = await _change(connection, name, "password = NULL", "User not found.")
        await sessions.revoke_all(connection, account.id)
        await password_reset.send_link(connection, site, account)
        await _done(connection, "PASSWORD_RESET", admin, account)


async def _hold_admins(connection: Connection, admin: Account) -> None:
    """Let one admin at a time take rights away, so that two cannot take them from each other and leave none.

    Raises Conflict if the admin is none any more.
    """
    rows = await connection.fetch("SELECT id FROM account WHERE is_admin AND is_active ORDER BY id FOR NO KEY UPDATE")
    if admin.id not in {row["id"] for row in rows}:
        raise Conflict("You are no longer an admin.")


async def _change(connection: Connection, name: str, change: str, missing: str) -> Account:
    row = await connection.fetchrow(
        f"UPDATE account SET {change} WHERE name = $1 RETURNING id, name, email, is_admin, is_active",
        name if is_user_name(name) else "",
    )
    if row is None:
        raise NotFound(missing)
    return Account(*row)


async def _done(connection: Connection, kind: Kind, admin: Account, account: Account) -> None:
    await audit.record(connection, kind, admin.name, subject=account.name)
