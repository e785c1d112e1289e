"""The access list of a package: user names, the pseudo-users `team` and `public`, and addresses that were invited."""

from __future__ import annotations

import asyncpg

from quilt_registry import events
from quilt_registry.accounts.users import is_user_name, no_name
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Forbidden, NotFound
from quilt_registry.letters import Site
from quilt_registry.limits import Limits
from quilt_registry.packages import access, invitations
from quilt_registry.packages.access import Caller, Member

PSEUDO_USERS = (access.PUBLIC, access.TEAM)


async def grantees(db: Database, caller: Caller, owner: str, name: str) -> list[str]:
    """Everybody in the access list, the owner first. Raises NotFound."""
    package = await access.to_read(db, caller, owner, name)
    rows = await db.fetch(
        "SELECT grantee FROM access WHERE package_id = $1 ORDER BY grantee <> $2, grantee", package.id, owner
    )
    return [row[0] for row in rows]


async def grant(db: Database, site: Site, limited: Limits, member: Member, owner: str, name: str, grantee: str) -> None:
    """Add a user, `team` or `public` to the access list, or invite a mail address.

    Raises Forbidden, NotFound, Invalid, Conflict, TooMany.
    """
    access.check_owner(member, owner, "grant access")
    package = await access.to_read(db, member, owner, name)
    if invitations.is_address(grantee):
        await invitations.invite(db, site, limited, member, package, grantee)
        return
    access.check_grantable(member.switches, grantee)
    _check_name(grantee)
    if grantee not in PSEUDO_USERS and not await db.fetchval(
        "SELECT EXISTS (SELECT FROM account WHERE name = $1)", grantee
    ):
        raise NotFound(f"User {grantee} does not exist")
    try:
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO access (package_id, grantee) VALUES ($1, $2)", package.id, grantee)
            await events.record(connection, "ACCESS_GRANT", member.name, package, subject=grantee)
    except asyncpg.UniqueViolationError:
        raise Conflict("The user already has access") from None
    except asyncpg.ForeignKeyViolationError:  # deleted this moment
        raise access.no_package(member, owner, name) from None


async def check_granted(db: Database, member: Member, owner: str, name: str, grantee: str) -> None:
    """Raises NotFound unless somebody is in the access list; Invalid, Forbidden."""
    _check_name(grantee)
    access.check_owner(member, owner, "view access")
    package = await access.to_read(db, member, owner, name)
    if not await db.fetchval(
        "SELECT EXISTS (SELECT FROM access WHERE package_id = $1 AND grantee = $2)", package.id, grantee
    ):
        raise access.no_package(member, owner, name)


async def revoke(db: Database, member: Member, owner: str, name: str, grantee: str) -> None:
    """Take out of the access list, or take an invitation back. URLs signed before stay good until they expire.

    Raises Invalid, Forbidden, NotFound.
    """
    if not invitations.is_address(grantee):
        _check_name(grantee)
    access.check_owner(member, owner, "revoke access")
    if grantee == owner:
        raise Forbidden("Cannot revoke the owner's access")
    package = await access.to_read(db, member, owner, name)
    if invitations.is_address(grantee):
        await invitations.withdraw(db, member, package, grantee)
        return
    async with db.transaction() as connection:
        done = await connection.execute(
            "DELETE FROM access WHERE package_id = $1 AND grantee = $2", package.id, grantee
        )
        if done == "DELETE 0":
            raise access.no_package(member, owner, name)
        await events.record(connection, "ACCESS_REVOKE", member.name, package, subject=grantee)


def _check_name(grantee: str) -> None:
    if not is_user_name(grantee):
        raise no_name()
