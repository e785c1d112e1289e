"""Sample packages for a new embedded registry, and their removal. Their data is invented, and in the folders here."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from quilt import manifest
from quilt.manifest import Child, File, Group, Root, Table
from quilt_registry.accounts.users import Account
from quilt_registry.bodies import Packed
from quilt_registry.database import Database
from quilt_registry.packages import history, listing, push
from quilt_registry.packages.access import AccessPolicy, Member
from quilt_registry.packages.instances import LATEST
from quilt_registry.packages.push import PushServices, Target
from quilt_registry.storage.objects import final_key

FOLDER = Path(__file__).parent
NAMES = ("sample_orchard", "sample_weather")
VERSION = "1.0"
OTHER_ACCESS = AccessPolicy(team=True, anonymous=False)
_TABLE = ".parquet"


class Sample(Struct, frozen=True):
    """A package: its name, its tree, and its objects by SHA-256."""

    name: str
    tree: Root
    objects: dict[str, bytes]

    @property
    def top_hash(self) -> str:
        return manifest.top_hash(self.tree)


def load(name: str) -> Sample:
    """Return a sample package: a node for each file of its folder, named as a build names it."""
    objects: dict[str, bytes] = {}
    return Sample(name, Root(_children(FOLDER / name, FOLDER / name, objects)), objects)


def _children(top: Path, folder: Path, objects: dict[str, bytes]) -> dict[str, Child]:
    nodes: dict[str, Child] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            nodes[path.name] = Group(_children(top, path, objects))
            continue
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        objects[sha256] = data
        nodes[path.stem] = _leaf(path.relative_to(top).as_posix(), sha256, is_table=path.suffix == _TABLE)
    return nodes


def _leaf(path: str, sha256: str, *, is_table: bool) -> File | Table:
    kinds = {"q_ext": "parquet", "q_target": "pandas"} if is_table else {"q_ext": "id", "q_target": "file"}
    metadata = Raw(msgspec.json.encode({"q_path": path, **kinds}))
    return Table([sha256], "PARQUET", metadata) if is_table else File([sha256], metadata)


async def push_all(services: PushServices, owner: Account) -> None:
    """Push the samples as packages of a user, shared with the team if the registry has one.

    The objects are stored first, as an upload would do. Only for a directory store.
    """
    member = Member(owner, AccessPolicy(team=bool(services.team_id), anonymous=False))
    for name in NAMES:
        sample = load(name)
        await _store_objects(services, owner.name, sample.objects)
        body = {
            "contents": sample.tree,
            "description": "",
            "sizes": {sha256: len(data) for sha256, data in sample.objects.items()},
            "is_team": member.policy.team,
        }
        await push.push(services, member, Target(owner.name, name, sample.top_hash), Packed(msgspec.json.encode(body)))
        await history.put_tag(services.db, member, owner.name, name, LATEST, sample.top_hash)
        await history.put_version(services.db, member, owner.name, name, VERSION, sample.top_hash)


async def _store_objects(services: PushServices, owner: str, objects: dict[str, bytes]) -> None:
    directory = services.store.directory
    assert directory is not None
    for sha256, data in objects.items():
        await directory.receive(final_key(owner, sha256), _chunk(data), len(data), len(data))


async def _chunk(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def remove_all(db: Database) -> list[str]:
    """Delete the sample packages, and return their names. One with other pushes or another owner's stays."""
    hashes = [bytes.fromhex(load(name).top_hash) for name in NAMES]
    rows = await db.fetch(
        """
        SELECT a.id, a.name, a.email, a.is_admin, a.is_active, p.name AS package FROM package p
        JOIN account a ON a.id = p.owner_id
        WHERE p.name = ANY($1::text[]) AND p.pushes > 0
          AND NOT EXISTS (SELECT FROM instance i WHERE i.package_id = p.id AND i.top_hash <> ALL($2::bytea[]))
        ORDER BY p.owner, p.name
        """,
        NAMES, hashes,
    )  # fmt: skip
    for row in rows:
        member = Member(Account(*list(row)[:5]), OTHER_ACCESS)
        await listing.delete(db, member, member.name, row["package"])
    return [f"{row['name']}/{row['package']}" for row in rows]
