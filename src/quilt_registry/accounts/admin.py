"""Account management by admins. Every operation records an audit event with the admin and the account concerned."""

from __future__ import annotations

from quilt_registry import audit
from quilt_registry.accounts import email_links, password_reset, rights, sessions, users
from quilt_registry.accounts.users import Account, is_username
from quilt_registry.audit import Kind
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, NotFound
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site


async def create(db: Database, site: Site, admin: Account, name: str, email: str) -> str:
    """Create an active account without a password, and email a link to choose one. Raise Invalid or Conflict.

    Return the secret of the link, for the admin to hand over if no email can be sent.
    """
    if not is_username(name):
        raise users.invalid_username()
    users.check(name, email)
    async with db.transaction() as connection:
        account_id = await users.insert(connection, name, email, None)
        link = await email_links.create(connection, account_id, "reset")
        await emails.welcome(connection, site, name, email, link)
        await audit.record(connection, "ACCOUNT_CREATE", admin.name, subject=name)
        return link


async def disable(db: Database, admin: Account, name: str) -> None:
    """Disable an account and revoke its tokens. Its packages stay. Raise Forbidden, NotFound or Conflict."""
    rights.check_disable(admin, name)
    async with db.transaction() as connection:
        await _lock_admins(connection, admin)
        account = await _update(
            connection, name, "is_active = false, awaits_activation = false", "User to disable not found"
        )
        await sessions.revoke_all(connection, account.id)
        await email_links.revoke(connection, account.id, "activation")
        await _record(connection, "ACCOUNT_DISABLE", admin, account)


async def enable(db: Database, admin: Account, name: str) -> None:
    """Enable a disabled account, or activate one whose activation email was lost. Raise NotFound."""
    async with db.transaction() as connection:
        account = await _update(
            connection, name, "is_active = true, awaits_activation = false", "User to enable not found"
        )
        await _record(connection, "ACCOUNT_ENABLE", admin, account)


async def grant_admin(db: Database, admin: Account, name: str) -> None:
    """Make a user an admin. Raise NotFound."""
    async with db.transaction() as connection:
        account = await _update(connection, name, "is_admin = true", "User to make an admin not found")
        await _record(connection, "ADMIN_GRANT", admin, account)


async def revoke_admin(db: Database, admin: Account, name: str) -> None:
    """Revoke a user's admin rights. Raise Forbidden, NotFound or Conflict."""
    rights.check_revoke_admin(admin, name)
    async with db.transaction() as connection:
        await _lock_admins(connection, admin)
        account = await _update(connection, name, "is_admin = false", "User to revoke not found")
        await _record(connection, "ADMIN_REVOKE", admin, account)


async def reset_password(db: Database, site: Site, admin: Account, name: str) -> None:
    """Remove a user's password, revoke all tokens, and email a link to choose a new password. Raise NotFound."""
    async with db.transaction() as connection:
        account = await _update(connection, name, "password = NULL", "User not found.")
        await sessions.revoke_all(connection, account.id)
        await password_reset.send_link(connection, site, account)
        await _record(connection, "PASSWORD_RESET", admin, account)


async def _lock_admins(connection: Connection, admin: Account) -> None:
    """Lock all admins, so that two cannot revoke each other's rights at once and leave no admin.

    Raise Conflict if the caller is no longer an admin.
    """
    rows = await connection.fetch("SELECT id FROM account WHERE is_admin AND is_active ORDER BY id FOR NO KEY UPDATE")
    if admin.id not in {row["id"] for row in rows}:
        raise Conflict("You are no longer an admin.")


async def _update(connection: Connection, name: str, assignments: str, not_found: str) -> Account:
    row = await connection.fetchrow(
        f"UPDATE account SET {assignments} WHERE name = $1 RETURNING id, name, email, is_admin, is_active",
        name if is_username(name) else "",
    )
    if row is None:
        raise NotFound(not_found)
    return Account(*row)


async def _record(connection: Connection, kind: Kind, admin: Account, account: Account) -> None:
    await audit.record(connection, kind, admin.name, subject=account.name)
