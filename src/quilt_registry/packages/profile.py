"""The packages of a member: their own, and those that were shared with them by name."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, UnsetType

from quilt_registry.database import Database
from quilt_registry.packages import access, invitations
from quilt_registry.packages.access import Member, Package
from quilt_registry.packages.paging import Paging


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


async def list_packages(
    db: Database, member: Member, paging: Paging, *, claim: bool
) -> tuple[ProfilePackages, str | UnsetType | None]:
    """Return the member's packages and `next`: first their own by name, then the shared ones by owner and name.

    `after` is OWNER/NAME of the last package of a page. `claim` first turns the member's invitations into access.
    """
    if claim:
        await invitations.claim(db, member.account)
    owner, _, name = paging.after.partition("/")
    begins_with_own = owner in ("", member.name)
    found = await _own(db, member, name, paging.fetched) if begins_with_own else []
    left = None if paging.fetched is None else paging.fetched - len(found)
    if left != 0:
        found += await _shared(db, member, ("", "") if begins_with_own else (owner, name), left)
    packages, last = paging.cut(found)
    entries = [_summarize(member, package) for package in packages]
    own = [each for each in entries if each.owner == member.name]
    shared = [each for each in entries if each.owner != member.name]
    return ProfilePackages(own, shared), paging.next(f"{last.owner}/{last.name}" if last else None)


async def _own(db: Database, member: Member, after: str, limit: int | None) -> list[Package]:
    rows = await db.public.fetch(
        f"""
        SELECT {access.COLUMNS} FROM package p WHERE p.owner_id = $1 AND lower(p.name) > lower($2)
        ORDER BY lower(p.name) LIMIT $3
        """,
        member.account.id, after, limit,
    )  # fmt: skip
    return [Package(*row) for row in rows]


async def _shared(db: Database, member: Member, after: tuple[str, str], limit: int | None) -> list[Package]:
    rows = await db.public.fetch(
        f"""
        SELECT {access.COLUMNS} FROM package p JOIN access mine ON mine.package_id = p.id AND mine.grantee = $1
        WHERE p.owner <> $1 AND (lower(p.owner), lower(p.name)) > (lower($2), lower($3))
        ORDER BY lower(p.owner), lower(p.name) LIMIT $4
        """,
        member.name, *after, limit,
    )  # fmt: skip
    return [Package(*row) for row in rows]


async def count_invitations(db: Database, member: Member) -> dict[str, int]:
    """Return the numbers of pending invitations to the member's own packages, by name."""
    rows = await db.fetch(
        """
        SELECT p.name, count(*) AS number FROM invitation i JOIN package p ON p.id = i.package_id
        WHERE p.owner_id = $1 GROUP BY p.name
        """,
        member.account.id,
    )
    return {row["name"]: row["number"] for row in rows}


async def find_grant_times(db: Database, member: Member, handles: list[tuple[str, str]]) -> dict[str, datetime]:
    """Return since when packages are shared with the member by name, by OWNER/NAME."""
    rows = await db.fetch(
        """
        SELECT p.owner || '/' || p.name AS handle, mine.granted_at
        FROM unnest($2::text[], $3::text[]) AS h (owner, name)
        JOIN package p USING (owner, name) JOIN access mine ON mine.package_id = p.id
        WHERE mine.grantee = $1 AND mine.granted_at IS NOT NULL
        """,
        member.name, [owner for owner, _ in handles], [name for _, name in handles],
    )  # fmt: skip
    return {row["handle"]: row["granted_at"] for row in rows}


def _summarize(member: Member, package: Package) -> ProfilePackage:
    is_public, is_team = access.is_public(member, package), access.is_team(member, package)
    return ProfilePackage(package.owner, package.name, is_public, is_team)
