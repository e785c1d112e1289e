"""The packages of a member: their own, and those that were shared with them by name."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.packages import access, invitations
from quilt_registry.packages.access import Member, Package


class ProfilePackage(Struct):
    """A package in a profile. The flags tell whether a `public` or `team` entry applies to the member."""

    owner: str
    name: str
    is_public: bool
    is_team: bool


class ProfilePackages(Struct):
    """A user's own packages, and those shared with the user by name."""

    own: list[ProfilePackage]
    shared: list[ProfilePackage]


async def list_packages(db: Database, member: Member, *, claim: bool) -> ProfilePackages:
    """Return the member's packages, by owner and name. `claim` first turns their invitations into access."""
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
    return ProfilePackages(
        own=[_summarize(member, package) for package in packages if package.owner == member.name],
        shared=[_summarize(member, package) for package in packages if package.owner != member.name],
    )


def _summarize(member: Member, package: Package) -> ProfilePackage:
    is_public, is_team = access.is_public(member, package), access.is_team(member, package)
    return ProfilePackage(package.owner, package.name, is_public, is_team)
