"""What the page of a package tells about a version beyond its numbers: README, verification, users."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.database import Database
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.descriptions import MAX_README_BYTES
from quilt_registry.packages.instances import Instance
from quilt_registry.storage.objects import ObjectState

MAX_UNVERIFIED = 2000  # objects waiting for verification that are looked at

Verification = Literal["verified", "pending", "damaged"]


class Readme(Struct, frozen=True):
    """The README of a version. `text` is None if it could not be read; `is_cut` if it is longer than the text."""

    text: str | None
    is_cut: bool


class Overview(Struct, frozen=True):
    """A version's README, None if it has none, and how much the package can be trusted.

    `verification` is `damaged` if the contents of an object do not have its SHA-256, and `pending` until the store or
    the registry has compared them. `installers` is the number of users who have installed the package.
    """

    readme: Readme | None
    verification: Verification
    installers: int


async def read(db: Database, caller: Caller, package: Package, instance: Instance, *, record: bool) -> Overview:
    """Return the overview of a version of a package that the caller may read. `record` records the event PREVIEW.

    Raise NotFound if the version was just deleted.
    """
    row = await db.fetchrow(
        f"""
        SELECT i.readme IS NOT NULL AS has_readme, r.text,
            coalesce((SELECT o.size > {MAX_README_BYTES} FROM object o
                      WHERE o.owner_id = $2 AND o.digest = i.readme), false) AS is_cut,
            EXISTS (SELECT FROM object o JOIN package_object b ON b.object_id = o.id AND b.package_id = $3
                    WHERE o.owner_id = $2 AND o.state = {ObjectState.DAMAGED}) AS is_damaged,
            EXISTS (SELECT FROM (SELECT o.id FROM object o WHERE o.state = {ObjectState.PRESENT}
                                 ORDER BY o.created_at DESC LIMIT {MAX_UNVERIFIED}) o
                    JOIN package_object b ON b.object_id = o.id AND b.package_id = $3) AS is_pending,
            (SELECT count(DISTINCT e.account) FROM event e WHERE e.package_id = $3 AND e.kind = 'INSTALL') AS installers
        FROM instance i LEFT JOIN readme r ON r.owner_id = $2 AND r.digest = i.readme WHERE i.id = $1
        """,
        instance.id, package.owner_id, package.id,
    )  # fmt: skip
    if row is None:
        raise access.instance_not_found()
    if record:
        await audit.record(db, "PREVIEW", caller.name, package, instance.top_hash)
    readme = Readme(row["text"], row["is_cut"]) if row["has_readme"] else None
    state: Verification = "damaged" if row["is_damaged"] else "pending" if row["is_pending"] else "verified"
    return Overview(readme, state, row["installers"])
