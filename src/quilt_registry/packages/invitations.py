"""Invitations: access for an email address, granted to the user who proves to read its emails.

The proof is the link in the invitation itself, or an account whose email address is proven (`users.prove_email`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from quilt_registry import audit, rate_limits
from quilt_registry.accounts import secret, users
from quilt_registry.accounts.users import Account, is_email
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid, NotFound
from quilt_registry.mail import emails
from quilt_registry.packages import access, locks
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.services import Services

MAX_EMAIL_LENGTH = 254  # characters
RESEND_INTERVAL = timedelta(minutes=10)


class Invitation(Struct):
    """A pending invitation. `invited_at` is in ISO 8601."""

    invitation_id: int
    owner: str
    package: str
    email: str
    invited_at: str


class InvitedPackage(Struct, frozen=True):
    """A package that an invitation is for."""

    id: int
    owner: str
    name: str

    @property
    def announcement(self) -> str:
        """Return what the user whose invitation became access is told."""
        return f"{self.owner} shared {self.owner}/{self.name} with you."


def is_for_email(grantee: str) -> bool:
    """Return whether a grantee is an email address instead of a user."""
    return "@" in grantee


async def invite(services: Services, member: Member, package: Package, email: str) -> bool:
    """Invite an email address, in lower case, by email. A repeated invitation is sent again after ten minutes.

    Return whether it was sent. Raise Invalid, TooMany, NotFound.
    """
    email, link = email.lower(), secret.generate()
    if len(email) > MAX_EMAIL_LENGTH or not is_email(email):
        raise Invalid("Invalid email.")
    await services.limits.hit(rate_limits.INVITE, member.name)
    async with locks.shared(services.db, member, package) as connection:
        fresh = await connection.fetchval(
            """
            INSERT INTO invitation (package_id, email, invited_by, digest) VALUES ($1, $2, $3, $5)
            ON CONFLICT (email, package_id) DO UPDATE
            SET invited_at = now(), invited_by = excluded.invited_by, digest = excluded.digest
            WHERE invitation.invited_at < now() - $4::interval RETURNING true
            """,
            package.id, email, member.name, RESEND_INTERVAL, secret.digest(link),
        )  # fmt: skip
        if fresh:
            await emails.invitation(connection, services.site, email, package, link)
            await audit.record(connection, "INVITE", member.name, package, email=email)
    return bool(fresh)


async def is_pending(db: Database, package: Package, email: str) -> bool:
    """Return whether an email address is invited to a package."""
    return await db.value(
        bool,
        "SELECT EXISTS (SELECT FROM invitation WHERE package_id = $1 AND email = $2)",
        package.id, email.lower(),
    )  # fmt: skip


async def resend(services: Services, member: Member, package: Package, email: str) -> None:
    """Send a pending invitation again. Raise NotFound, Conflict, TooMany."""
    access.check_owner(member, package.owner, "invite users")
    if not await is_pending(services.db, package, email):
        raise NotFound(f"There is no invitation of {email}.")
    if not await invite(services, member, package, email):
        minutes = RESEND_INTERVAL // timedelta(minutes=1)
        raise Conflict(f"{email} was invited less than {minutes} minutes ago. Try again later.")


async def withdraw(db: Database, member: Member, package: Package, email: str) -> None:
    """Withdraw an invitation. Raise NotFound."""
    async with locks.shared(db, member, package) as connection:
        status = await connection.execute(
            "DELETE FROM invitation WHERE package_id = $1 AND email = $2", package.id, email.lower()
        )
        if status == "DELETE 0":
            raise access.package_not_found(member, package.owner, package.name)
        await audit.record(connection, "INVITE_CANCEL", member.name, package, email=email.lower())


async def list_for_package(db: Database, caller: Caller, owner: str, name: str) -> list[Invitation]:
    """Return the invitations to a package, for other readers than its owner an empty list. Raise NotFound."""
    rows = f"SELECT ROW({_COLUMNS}) FROM invitation i WHERE i.package_id = p.id ORDER BY i.id"
    package, found = await access.get_readable_with(db, caller, owner, name, rows)
    return [_invitation(*row) for row in found] if access.may_see_invitations(caller, package) else []


async def list_for_account(db: Database, account: Account) -> list[Invitation]:
    """Return the invitations for an account's email address, if it is proven."""
    rows = await db.public.fetch(
        f"""
        SELECT {_COLUMNS} FROM invitation i JOIN package p ON p.id = i.package_id
        WHERE i.email = (SELECT lower(email) FROM account WHERE id = $1 AND email_proven) ORDER BY i.id
        """,
        account.id,
    )
    return [_invitation(*row) for row in rows]


_COLUMNS = "i.id, p.owner, p.name, i.email, i.invited_at"


def _invitation(id: int, owner: str, package: str, email: str, invited_at: datetime) -> Invitation:
    return Invitation(id, owner, package, email, invited_at.isoformat())


async def is_invited(db: Database, email: str) -> bool:
    """Return whether an email address has a pending invitation."""
    return await db.value(bool, "SELECT EXISTS (SELECT FROM invitation WHERE email = $1)", email.lower())


async def find_email(db: Database, link: str) -> str:
    """Return the email address, in lower case, that an invitation's link was sent to. "" if there is none."""
    return await db.fetchval("SELECT email FROM invitation WHERE digest = $1", secret.digest(link)) or ""


async def claim(db: Database, account: Account) -> list[InvitedPackage]:
    """Turn all invitations for an account's email address into access, if it is proven. Concurrent calls are safe.

    Return the packages.
    """
    if not await list_for_account(db, account):
        return []
    async with db.transaction() as connection:
        return await _claim(connection, account)


async def accept(db: Database, account: Account, link: str) -> InvitedPackage | None:
    """Turn the invitation of a link into access, and return its package. Return None if the link is invalid.

    The account may have another email address. If it has the invited one, the link proves it, and the account gets
    all that is shared with it.
    """
    async with db.transaction() as connection:
        row = await connection.fetchrow(
            """
            SELECT p.id, p.owner, p.name, i.email FROM package p JOIN invitation i ON i.package_id = p.id
            WHERE i.digest = $1 FOR KEY SHARE OF p
            """,
            secret.digest(link),
        )
        if row is None:
            return None
        package, email = InvitedPackage(*row[:3]), row["email"]
        if email == account.email.lower():
            await users.prove_email(connection, account.id)
            await _claim(connection, account)
        else:
            await _grant(connection, account, package, email)
        return package


async def _claim(connection: Connection, account: Account) -> list[InvitedPackage]:
    """Turn all invitations for an account's email address into access. Return the packages."""
    email = account.email.lower()
    # Lock the packages first: this waits for a package that is being deleted, together with its invitations.
    rows = await connection.fetch(
        """
        SELECT p.id, p.owner, p.name FROM package p
        WHERE p.id IN (SELECT package_id FROM invitation WHERE email = $1) ORDER BY p.id FOR KEY SHARE
        """,
        email,
    )
    packages = [InvitedPackage(*row) for row in rows]
    for package in packages:
        await _grant(connection, account, package, email)
    return packages


async def _grant(connection: Connection, account: Account, package: InvitedPackage, email: str) -> None:
    """Turn an invitation into access, unless a concurrent call has done so."""
    status = await connection.execute("DELETE FROM invitation WHERE package_id = $1 AND email = $2", package.id, email)
    if status == "DELETE 0":
        return
    await connection.execute(
        "INSERT INTO access (package_id, grantee) VALUES ($1, $2) ON CONFLICT DO NOTHING", package.id, account.name
    )
    extra: dict[str, Any] = {} if email == account.email.lower() else {"email": email}
    await audit.record(connection, "INVITE_CLAIM", account.name, package, **extra)
