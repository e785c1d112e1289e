"""What somebody has: packages of their own, and those that were shared with them by name."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.packages import access, invitations
from quilt_registry.packages.access import Member, Package


class Row(Struct):
    """A package. The flags tell of entries in its access list that count for the caller."""

    owner: str
    name: str
    is_public: bool
    is_team: bool


class Profile(Struct):
    own: list[Row]
    shared: list[Row]


async def profile(db: Database, member: Member, *, claim: bool) -> Profile:
    """The member's packages, by owner and name. `claim`: invitations of their address become access first."""
    if claim:
        await invitations.claim(db, member.account)
    rows = await db.fetch(
        f"""
        SELECT {access.COLUMNS} FROM package p JOIN access mine ON mine.package_id = p.id AND mine.grantee = $1
        ORDER BY lower(p.owner), lower(p.name)
        """,
        member.name,
    )
    packages = [Package(*row) for row in rows]
    return Profile(
        own=[_row(member, package) for package in packages if package.owner == member.name],
        shared=[_row(member, package) for package in packages if package.owner != member.name],
    )


def _row(member: Member, package: Package) -> Row:
    return Row(package.owner, package.name, access.is_public(member, package), access.is_team(member, package))
