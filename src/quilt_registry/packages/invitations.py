"""Sharing with an address: it becomes access when whoever reads mail there comes to this registry."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from msgspec import Struct

from quilt_registry import audit, rate_limits
from quilt_registry.accounts.users import Account, is_email
from quilt_registry.database import Database
from quilt_registry.errors import Invalid
from quilt_registry.mail import emails
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.services import Services

LONGEST_EMAIL = 254  # characters
AGAIN_AFTER = timedelta(minutes=10)  # before a letter that may be lost is written again


class Invitation(Struct):
    """An invitation that nobody has claimed; `invited_at` in ISO 8601."""

    invitation_id: int
    owner: str
    package: str
    email: str
    invited_at: str


class InvitedPackage(Struct, frozen=True):
    """A package that somebody was invited to."""

    id: int
    owner: str
    name: str


def is_address(grantee: str) -> bool:
    """Whether access is asked for a mail address instead of a user."""
    return "@" in grantee


async def invite(services: Services, member: Member, package: Package, email: str) -> None:
    """Invite an address, in lower case, by a letter; again after some minutes. Raises Invalid, TooMany, NotFound."""
    email = email.lower()
    if len(email) > LONGEST_EMAIL or not is_email(email):
        raise Invalid("Invalid email.")
    await services.limits.hit(rate_limits.INVITE, member.name)
    try:
        async with services.db.transaction() as connection:
            fresh = await connection.fetchval(
                """
                INSERT INTO invitation (package_id, email, invited_by) VALUES ($1, $2, $3)
                ON CONFLICT (email, package_id) DO UPDATE SET invited_at = now(), invited_by = excluded.invited_by
                WHERE invitation.invited_at < now() - $4::interval RETURNING true
                """,
                package.id, email, member.name, AGAIN_AFTER,
            )  # fmt: skip
            if fresh:
                await emails.invitation(connection, services.site, email, package.owner, package.name)
                await audit.record(connection, "INVITE", member.name, package, email=email)
    except asyncpg.ForeignKeyViolationError:  # deleted this moment
        raise access.package_not_found(member, package.owner, package.name) from None


async def withdraw(db: Database, member: Member, package: Package, email: str) -> None:
    """Take an invitation back. Raises NotFound."""
    async with db.transaction() as connection:
        done = await connection.execute(
            "DELETE FROM invitation WHERE package_id = $1 AND email = $2", package.id, email.lower()
        )
        if done == "DELETE 0":
            raise access.package_not_found(member, package.owner, package.name)
        await audit.record(connection, "INVITE_CANCEL", member.name, package, email=email.lower())


async def of_package(db: Database, caller: Caller, owner: str, name: str) -> list[Invitation]:
    """The invitations to a package, for its owner; addresses are none of other readers' business. Raises NotFound."""
    package = await access.get_readable(db, caller, owner, name)
    return await _list(db, "i.package_id = $1", package.id) if access.may_see_invitations(caller, package) else []


async def of_account(db: Database, account: Account) -> list[Invitation]:
    """The invitations that wait for an account's address."""
    return await _list(db, "i.email = $1", account.email.lower())


async def _list(db: Database, condition: str, value: object) -> list[Invitation]:
    rows = await db.fetch(
        f"""
        SELECT i.id, p.owner, p.name, i.email, i.invited_at
        FROM invitation i JOIN package p ON p.id = i.package_id WHERE {condition} ORDER BY i.id
        """,
        value,
    )
    return [Invitation(row[0], row[1], row[2], row[3], row[4].isoformat()) for row in rows]


async def is_invited(db: Database, email: str) -> bool:
    """Whether an address has been invited to anything."""
    return await db.value(bool, "SELECT EXISTS (SELECT FROM invitation WHERE email = $1)", email.lower())


async def claim(db: Database, account: Account) -> None:
    """Turn all invitations of an account's address into access. Twice at once is safe."""
    if not await is_invited(db, account.email):
        return
    async with db.transaction() as connection:
        # The packages first, as everywhere: one that is being deleted is waited for, and takes its invitations along.
        rows = await connection.fetch(
            """
            SELECT p.id, p.owner, p.name FROM package p
            WHERE p.id IN (SELECT package_id FROM invitation WHERE email = $1) ORDER BY p.id FOR KEY SHARE
            """,
            account.email.lower(),
        )
        for row in rows:
            package = InvitedPackage(*row)
            done = await connection.execute(
                "DELETE FROM invitation WHERE package_id = $1 AND email = $2", package.id, account.email.lower()
            )
            if done == "DELETE 0":
                continue
            await connection.execute(
                "INSERT INTO access (package_id, grantee) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                package.id, account.name,
            )  # fmt: skip
            await audit.record(connection, "INVITE_CLAIM", account.name, package)
