"""Finding packages by words: in names, node names and README of what the tag `latest` points at (protocol §15)."""

from __future__ import annotations

import re

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import LATEST
from quilt_registry.packages.manifests import SEARCHED

README_SHOWN = 1024  # characters of a README in a hit
LONGEST = 1000  # characters of a query that are looked at


class Hit(Struct):
    """A package that was found; `rank` is below 1, and 0 where no words were asked for."""

    owner: str
    name: str
    is_public: bool
    is_team: bool
    readme_preview: str | None
    rank: float


async def index(db: Database | Connection, package_id: int, owner: str, name: str) -> None:
    """Make a package findable by what its tag `latest` points at now; without that tag it is not found."""
    await db.execute(
        """
        INSERT INTO package_search (package_id, words)
        SELECT $1, setweight(to_tsvector('english', $2), 'A') || setweight(to_tsvector('english', $3), 'B')
                || setweight(to_tsvector('english', replace(i.names, '_', ' ')), 'C')
                || setweight(to_tsvector('english', left(coalesce(r.text, ''), $4)), 'D')
        FROM tag t JOIN instance i ON i.id = t.instance_id JOIN package p ON p.id = i.package_id
        LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
        WHERE t.package_id = $1 AND t.name = $5
        ON CONFLICT (package_id) DO UPDATE SET words = excluded.words WHERE package_search.words <> excluded.words
        """,
        package_id, f"{owner}/{name} {owner} {name}", " ".join(_pieces(owner) + _pieces(name)), SEARCHED, LATEST,
    )  # fmt: skip


def _pieces(name: str) -> list[str]:
    """The parts of a name: between underscores, then runs of letters or of digits."""
    parts = name.split("_")
    return parts + [run for part in parts for run in re.findall(r"[^\W\d_]+|\d+", part)]


async def search(db: Database, caller: Caller, query: str) -> list[Hit]:
    """Packages that the caller may read and that hold all words of the query; all of them for an empty one."""
    words = query.replace("\0", " ")[:LONGEST]
    rows = await db.fetch(
        f"""
        SELECT {access.COLUMNS}, left(r.text, $3),
               ts_rank_cd('{{0.1, 0.2, 0.4, 1.0}}', s.words, q.words, 32)::float8 AS rank
        FROM package_search s JOIN package p ON p.id = s.package_id
        CROSS JOIN plainto_tsquery('english', $2) AS q (words)
        LEFT JOIN tag t ON t.package_id = p.id AND t.name = '{LATEST}'
        LEFT JOIN instance i ON i.id = t.instance_id
        LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
        WHERE ($2 = '' OR s.words @@ q.words) AND {access.READABLE}
        ORDER BY rank DESC, p.owner, p.name
        """,
        caller.grants, words, README_SHOWN,
    )  # fmt: skip
    return [_hit(caller, Package(*row[:7]), row[7], row[8]) for row in rows]


def _hit(caller: Caller, package: Package, readme: str | None, rank: float) -> Hit:
    public, team = access.is_public(caller, package), access.is_team(caller, package)
    return Hit(package.owner, package.name, public, team, readme, rank)
