"""The access list of a package: usernames, the pseudo-users `team` and `public`, and invited email addresses."""

from __future__ import annotations

from datetime import datetime

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import users
from quilt_registry.accounts.users import RESERVED_USERNAMES, invalid_username, is_username
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid, NotFound
from quilt_registry.packages import access, invitations, locks
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.services import Services

PSEUDO_USERS = (access.PUBLIC, access.TEAM)


class Reader(Struct, frozen=True):
    """A user with whom a package is shared. `since` is None if the grant is older than the audit trail."""

    name: str
    since: datetime | None


async def list_readers(db: Database, package: Package) -> list[Reader]:
    """Return the users with whom a package is shared, by name. The owner and the pseudo-users are left out."""
    rows = await db.fetch(
        """
        SELECT a.grantee, g.since FROM access a LEFT JOIN (
            SELECT coalesce(subject, account) AS grantee, max(created_at) AS since FROM event
            WHERE package_id = $1 AND kind IN ('ACCESS_GRANT', 'INVITE_CLAIM') GROUP BY 1
        ) g ON g.grantee = a.grantee
        WHERE a.package_id = $1 AND a.grantee <> ALL($2::text[]) ORDER BY a.grantee
        """,
        package.id, [package.owner, *PSEUDO_USERS],
    )  # fmt: skip
    return [Reader(*row) for row in rows]


async def list_grantees(db: Database, caller: Caller, owner: str, name: str) -> list[str]:
    """Return the access list, the owner first. Raise NotFound."""
    rows = "SELECT a.grantee FROM access a WHERE a.package_id = p.id ORDER BY a.grantee <> p.owner, a.grantee"
    _, grantees = await access.get_readable_with(db, caller, owner, name, rows)
    return grantees


async def grant(services: Services, member: Member, owner: str, name: str, grantee: str) -> None:
    """Add a user, `team` or `public` to the access list, or invite an email address.

    Raise Forbidden, NotFound, Invalid, Conflict, TooMany.
    """
    access.check_owner(member, owner, "grant access")
    package = await access.get_readable(services.db, member, owner, name)
    if invitations.is_for_email(grantee):
        await invitations.invite(services, member, package, grantee)
        return
    access.check_grantable(member.policy, grantee)
    _check_username(grantee)
    if grantee not in PSEUDO_USERS and not await services.db.fetchval(
        "SELECT EXISTS (SELECT FROM account WHERE name = $1)", grantee
    ):
        raise NotFound(f"User {grantee} does not exist")
    try:
        async with locks.shared(services.db, member, package) as connection:
            await connection.execute("INSERT INTO access (package_id, grantee) VALUES ($1, $2)", package.id, grantee)
            await audit.record(connection, "ACCESS_GRANT", member.name, package, subject=grantee)
    except asyncpg.UniqueViolationError:
        raise Conflict("The user already has access") from None


async def add(services: Services, member: Member, package: Package, who: str) -> str | None:
    """Share a package with a user, by name or email address, or invite an email address.

    Return the user's name, or None for an invitation. An email address stands for its user only in team mode, because
    in open mode it would reveal who has an account. Raise Forbidden, NotFound, Invalid, Conflict, TooMany.
    """
    email = who if invitations.is_for_email(who) else None
    if email and not member.policy.anonymous:
        who = await users.find_by_email(services.db, email) or who
    if who == package.owner:
        raise Invalid("This package is yours already.")
    if who in RESERVED_USERNAMES:
        raise Invalid(f"{who} is a reserved name. Enter the name of a user.")
    if who == email and await invitations.is_pending(services.db, package, email):
        raise Conflict(f"{email} is already invited. You can send the invitation again below.")
    await grant(services, member, package.owner, package.name, who)
    return None if who == email else who


async def check_granted(db: Database, member: Member, owner: str, name: str, grantee: str) -> None:
    """Raise NotFound unless the grantee is in the access list; Invalid, Forbidden."""
    _check_username(grantee)
    access.check_owner(member, owner, "view access")
    rows = "SELECT a.grantee FROM access a WHERE a.package_id = p.id AND a.grantee = $4"
    _, granted = await access.get_readable_with(db, member, owner, name, rows, grantee)
    if not granted:
        raise access.package_not_found(member, owner, name)


async def revoke(db: Database, member: Member, owner: str, name: str, grantee: str) -> None:
    """Remove a grantee from the access list, or withdraw an invitation. Presigned URLs stay valid until they expire.

    Raise Invalid, Forbidden, NotFound.
    """
    if not invitations.is_for_email(grantee):
        _check_username(grantee)
    access.check_owner(member, owner, "revoke access")
    access.check_revoke(owner, grantee)
    package = await access.get_readable(db, member, owner, name)
    if invitations.is_for_email(grantee):
        await invitations.withdraw(db, member, package, grantee)
        return
    async with locks.shared(db, member, package) as connection:
        status = await connection.execute(
            "DELETE FROM access WHERE package_id = $1 AND grantee = $2", package.id, grantee
        )
        if status == "DELETE 0":
            raise access.package_not_found(member, owner, name)
        await audit.record(connection, "ACCESS_REVOKE", member.name, package, subject=grantee)


def _check_username(grantee: str) -> None:
    if not is_username(grantee):
        raise invalid_username()
