"""Rights to packages. No other module decides who may read, push, tag, share or delete.

A caller who may not read a package gets the same error as for a package that does not exist.

* *read*: the users in the access list; every member if `team` is in it and team access is on; anyone if `public` is in
  it and anonymous access is on. The owner is always in the list.
* *push* and *tag*: the owner; every member if `team` is in the list and team access is on. Only the owner can create a
  package.
* *own* (versions, deletion of tags, access, deletion): the owner.

Admins have no additional rights to packages: they manage accounts and read the audit trail.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database, Statements
from quilt_registry.errors import Forbidden, NotFound

PUBLIC, TEAM = "public", "team"

Visibility = Literal["private", "shared", "team", "public"]


class AccessPolicy(Struct, frozen=True):
    """The kinds of shared access that the registry's settings allow."""

    team: bool
    anonymous: bool


def widest_audience(policy: AccessPolicy) -> str:
    """Return the pseudo-user that stands for the most readers. At least one kind of access is always on."""
    return PUBLIC if policy.anonymous else TEAM


class Caller(Struct, frozen=True):
    """The user of a request, signed in or anonymous."""

    account: Account | None
    policy: AccessPolicy

    @property
    def name(self) -> str | None:
        return self.account.name if self.account else None

    @property
    def grants(self) -> list[str]:
        """The entries in access lists that let this caller read."""
        grants = [PUBLIC] if self.policy.anonymous else []
        if self.account:
            grants.append(self.account.name)
            if self.policy.team:
                grants.append(TEAM)
        return grants


class Member(Caller, frozen=True):
    """A signed-in user."""

    account: Account

    @property
    def name(self) -> str:
        return self.account.name


class Package(Struct, frozen=True):
    """A package that the caller may read."""

    id: int
    owner_id: int
    owner: str
    name: str
    pushes: int
    has_public: bool
    has_team: bool


def is_public(caller: Caller, package: Package) -> bool:
    """Return whether the package has a `public` entry that applies to this caller."""
    return package.has_public and PUBLIC in caller.grants


def is_team(caller: Caller, package: Package) -> bool:
    """Return whether the package has a `team` entry that applies to this caller."""
    return package.has_team and TEAM in caller.grants


def visibility(caller: Caller, package: Package, *, shared: bool) -> Visibility:
    """Return how far a package is shared, in the word that pages show. `shared`: with single users."""
    if is_public(caller, package):
        return "public"
    if is_team(caller, package):
        return "team"
    return "shared" if shared else "private"


# A condition for queries on packages `p`. $1 is caller.grants.
READABLE = "EXISTS (SELECT FROM access a WHERE a.package_id = p.id AND a.grantee = ANY($1::text[]))"

COLUMNS = """
    p.id, p.owner_id, p.owner, p.name, p.pushes,
    EXISTS (SELECT FROM access a WHERE a.package_id = p.id AND a.grantee = 'public') AS has_public,
    EXISTS (SELECT FROM access a WHERE a.package_id = p.id AND a.grantee = 'team') AS has_team
"""


async def find(db: Database | Connection, caller: Caller, owner: str, name: str) -> Package | None:
    """Return the package, or None if it does not exist or the caller may not read it."""
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM package p WHERE p.owner = $2 AND p.name = $3 AND {READABLE}", caller.grants, owner, name
    )
    return Package(*row) if row else None


async def find_with(
    db: Statements | Connection, caller: Caller, owner: str, name: str, rows: str, *values: Any
) -> tuple[Package, list[Any]] | None:
    """Return the package and rows that belong to it, or None if it does not exist or the caller may not read it.

    It is one statement, so that a package which is deleted at this moment never looks like one without rows. `rows` is
    SQL for one column (a `ROW(…)` comes as a tuple), about the package `p`, with `values` as its parameters from $4 on.
    """
    row = await db.fetchrow(
        f"SELECT {COLUMNS}, ARRAY({rows}) FROM package p WHERE p.owner = $2 AND p.name = $3 AND {READABLE}",
        caller.grants, owner, name, *values,
    )  # fmt: skip
    return (Package(*row[:-1]), row[-1]) if row else None


def package_not_found(caller: Caller, owner: str, name: str) -> NotFound:
    """Return the error for a package that does not exist or that the caller may not read."""
    hint = "" if caller.account else " (do you need to log in?)"
    return NotFound(f"Package {owner}/{name} does not exist{hint}")


def instance_not_found() -> NotFound:
    """Return the error for a top hash that is unknown, not readable, or another package's."""
    return NotFound("Package hash does not exist")


async def get_readable(db: Database | Connection, caller: Caller, owner: str, name: str) -> Package:
    """Return a package that the caller may read. Raise NotFound."""
    package = await find(db, caller, owner, name)
    if package is None:
        raise package_not_found(caller, owner, name)
    return package


async def check_still_there(db: Database, caller: Caller, package: Package) -> None:
    """Raise NotFound if a package was deleted since it was read."""
    if not await db.value(bool, "SELECT EXISTS (SELECT FROM package WHERE id = $1)", package.id):
        raise package_not_found(caller, package.owner, package.name)


async def get_readable_with(
    db: Statements | Connection, caller: Caller, owner: str, name: str, rows: str, *values: Any
) -> tuple[Package, list[Any]]:
    """Return a package that the caller may read and rows that belong to it, as `find_with`. Raise NotFound."""
    found = await find_with(db, caller, owner, name, rows, *values)
    if found is None:
        raise package_not_found(caller, owner, name)
    return found


def may_write(caller: Caller, package: Package) -> bool:
    """Return whether the caller may push to the package and move its tags."""
    return caller.name == package.owner or is_team(caller, package)


def check_push(member: Member, owner: str, package: Package | None) -> None:
    """Raise Forbidden unless the member may push. `package` is None if the member cannot read one of that name."""
    if package is None:
        if member.name != owner:
            raise Forbidden("Only the package owner can create packages.")
    elif not may_write(member, package):
        raise Forbidden("Only the package owner can push private packages.")


def check_visibility(
    policy: AccessPolicy, team_id: str, package: Package | None, full_name: str, *, public: bool, team: bool
) -> None:
    """Raise Forbidden if a push asks for a visibility that the policy forbids, or that an existing package lacks."""
    check_grantable(policy, PUBLIC if public else None)
    check_grantable(policy, TEAM if team else None)
    if package and public and not package.has_public:
        raise Forbidden(f"{full_name} is private. To make it public, run `quilt access add {full_name} public`.")
    if package and team and not package.has_team:
        full = f"{team_id}:{full_name}" if team_id else full_name
        raise Forbidden(f"{full} is private. To share it with the team, run `quilt access add {full} team`.")


def check_grantable(policy: AccessPolicy, grantee: str | None) -> None:
    """Raise Forbidden for a pseudo-user that the policy does not allow in access lists."""
    if grantee == PUBLIC and not policy.anonymous:
        raise Forbidden("Public access not allowed")
    if grantee == TEAM and not policy.team:
        raise Forbidden("Team access not allowed")


def check_tag(member: Member, package: Package) -> None:
    """Raise Forbidden unless the member may move the package's tags."""
    if not may_write(member, package):
        if member.policy.team:
            raise Forbidden("Private package: only the package owner can modify tags")
        raise Forbidden("Only the package owner can modify tags")


def may_remove_comment(caller: Caller, package: Package, author: str) -> bool:
    """Return whether the caller wrote the comment or owns the package."""
    return caller.name in (author, package.owner)


def check_remove_comment(member: Member, package: Package, author: str) -> None:
    """Raise Forbidden unless the member wrote the comment or owns the package."""
    if not may_remove_comment(member, package, author):
        raise Forbidden("Only its author and the package owner can delete a comment.")


def check_owner(member: Member, owner: str, action: str) -> None:
    """Raise Forbidden unless the member is the owner. Checked before it is known whether the package exists."""
    if member.name != owner:
        raise Forbidden(f"Only the package owner can {action}")


def may_replace(member: Member, owner: str, *, versioned: bool) -> bool:
    """Return whether a push of a known top hash may replace the instance's metadata, which the hash leaves open.

    The last push wins, but only the owner may change an instance that a version names, because others rely on it.
    """
    return member.name == owner or not versioned


def may_upload_directly(member: Member, owner: str) -> bool:
    """Return whether the member's uploads go to the final keys of an owner, without being staged and hashed first."""
    return member.name == owner


def may_read_all_objects(member: Member, owner: str) -> bool:
    """Return whether the member may read every object of an owner, in any package."""
    return member.name == owner


def may_see_invitations(caller: Caller, package: Package) -> bool:
    """Return whether the caller may see who is invited: email addresses are shown to the owner only."""
    return caller.name == package.owner


def check_revoke(owner: str, grantee: str) -> None:
    """Raise Forbidden if the owner's own access would be revoked."""
    if grantee == owner:
        raise Forbidden("Cannot revoke the owner's access")
