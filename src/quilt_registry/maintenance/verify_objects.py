"""Stocktaking: the objects that packages name, held against what the store has.

Both lists go into temporary tables, so that a registry of any size is compared in little memory here. Pushes may go on.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.errors import NotFound
from quilt_registry.storage.objects import ObjectState, ObjectStore

EXAMPLES = 10
ASKED_AT_ONCE = 100  # few enough that a bucket is asked for each, and not listed
HASHED_AT_ONCE = 8
YOUNG = 3600  # seconds: longer than a push, which may store its last objects after its rows have their time


class Problem(Struct):
    """An object that is not as it should be, and up to ten of the packages that name it, as `owner/name`."""

    object: str
    problem: str
    packages: list[str]


class Problems(Struct):
    """How many objects; in which packages, with how many in each (those with most first, ten at most); examples."""

    count: int
    packages: dict[str, int]
    examples: list[Problem]


class Unexpected(Struct):
    """Objects in the store that no package names and nobody can be about to name; keys of some."""

    count: int
    bytes: int
    examples: list[str]


class Report(Struct):
    """What was found. `listed` and `unexpected` are None where the store was not listed; `hashed` counts objects."""

    named: int
    listed: int | None
    hashed: int
    missing: Problems
    damaged: Problems
    unexpected: Unexpected | None

    @property
    def is_ok(self) -> bool:
        return not self.missing.count and not self.damaged.count


async def run(
    db: Database,
    store: ObjectStore,
    lifetime: int,
    owner: str | None = None,
    sample: int | None = None,
    deep: bool = False,
) -> Report:
    """Compare all objects, one owner's, or so many taken at random; `deep` reads and hashes each.

    A sample is asked for one by one, and what nobody names is not looked for. `lifetime` is how long signed URLs live,
    in seconds: what is younger may be on its way into a push. Raises NotFound without such an owner, Unavailable.
    """
    async with db.connection() as connection:
        if owner and not await connection.fetchval("SELECT id FROM account WHERE name = $1", owner):
            raise NotFound(f"There is no user {owner}.")
        await connection.execute("SET statement_timeout = 0")
        named = await _write_down_named(connection, owner, sample)
        if sample is None:
            await _list_store(connection, store, owner)
        else:
            await _ask_store(connection, store, "true")
        await _compare(connection)
        if sample is None:
            await _ask_again(connection, store)
        hashed = await _hash(connection, store) if deep else 0
        return Report(
            named,
            None if sample is not None else await connection.fetchval("SELECT count(*) FROM listed"),
            hashed,
            await _problems(connection, "missing"),
            await _problems(connection, "damaged"),
            None if sample is not None else await _unexpected(connection, lifetime),
        )


# Objects that count: some package names them.
_NAMED = """
    SELECT o.id, 'objs/' || a.name || '/' || encode(o.digest, 'hex') AS key, o.size, o.state, o.created_at
    FROM object o JOIN account a ON a.id = o.owner_id
    WHERE EXISTS (SELECT FROM package_object po WHERE po.object_id = o.id)
"""


async def _write_down_named(connection: Connection, owner: str | None, sample: int | None) -> int:
    await connection.execute(
        "CREATE TEMP TABLE named (id bigint PRIMARY KEY, key text, size bigint, state smallint, created_at timestamptz,"
        " found text, problem text)"
    )
    await connection.execute("CREATE TEMP TABLE listed (key text, size bigint, changed_at timestamptz)")
    order = "ORDER BY random()" if sample is not None else ""
    await connection.execute(
        f"""
        INSERT INTO named (id, key, size, state, created_at)
        SELECT * FROM ({_NAMED} AND ($1::text IS NULL OR a.name = $1) {order} LIMIT $2) n
        """,
        owner, sample,
    )  # fmt: skip
    await connection.execute("ANALYZE named")
    return await connection.value(int, "SELECT count(*) FROM named")


async def _list_store(connection: Connection, store: ObjectStore, owner: str | None) -> None:
    async for batch in store.listing(owner):
        rows = [(key, size, datetime.fromtimestamp(changed, UTC)) for key, size, changed in batch]
        await connection.copy_records_to_table("listed", records=rows)
    await connection.execute("ANALYZE listed")


async def _ask_store(connection: Connection, store: ObjectStore, which: str) -> None:
    """Ask for some of the named objects, one by one, and add those that are there to the list."""
    last = 0
    while rows := await connection.fetch(
        f"SELECT id, key FROM named WHERE id > $1 AND {which} ORDER BY id LIMIT {ASKED_AT_ONCE}", last
    ):
        sizes = await store.sizes([row["key"] for row in rows])
        await connection.copy_records_to_table(
            "listed", columns=["key", "size"], records=[(key, size) for key, size in sizes.items()]
        )
        last = rows[-1]["id"]


async def _compare(connection: Connection) -> None:
    """Mark what is missing or damaged. What the registry knows to be damaged was removed from the store by it."""
    await connection.execute("UPDATE named SET found = NULL, problem = NULL WHERE found IS NOT NULL")
    await connection.execute(
        f"""
        UPDATE named n SET
            found = CASE WHEN n.state <> {ObjectState.DAMAGED} AND l.key IS NULL THEN 'missing' ELSE 'damaged' END,
            problem = CASE WHEN n.state = {ObjectState.DAMAGED} THEN 'was found to have other bytes; pushing it again mends it'
                           WHEN l.key IS NULL THEN 'is not in the store'
                           ELSE format('has %s bytes instead of %s', l.size, n.size) END
        FROM named same LEFT JOIN listed l ON l.key = same.key
        WHERE same.id = n.id AND (n.state = {ObjectState.DAMAGED} OR l.key IS NULL OR l.size <> n.size)
        """
    )


async def _ask_again(connection: Connection, store: ObjectStore) -> None:
    """What is young may have been stored after its part of the store was listed."""
    young = f"found = 'missing' AND created_at > now() - make_interval(secs => {YOUNG})"
    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM named WHERE {young})"):
        await _ask_store(connection, store, young)
        await _compare(connection)


async def _hash(connection: Connection, store: ObjectStore) -> int:
    """Read all that seems to be in order; returns how many objects that were."""
    last = hashed = 0
    while rows := await connection.fetch(
        f"SELECT id, key FROM named WHERE id > $1 AND found IS NULL ORDER BY id LIMIT {HASHED_AT_ONCE}", last
    ):
        intact = await asyncio.gather(*(store.is_intact(row["key"], row["key"][-64:]) for row in rows))
        await connection.execute(
            "UPDATE named SET found = 'damaged', problem = 'has other bytes' WHERE id = ANY($1::bigint[])",
            [row["id"] for row, fine in zip(rows, intact, strict=True) if not fine],
        )
        last, hashed = rows[-1]["id"], hashed + len(rows)
    return hashed


async def _problems(connection: Connection, found: str) -> Problems:
    count = await connection.fetchval("SELECT count(*) FROM named WHERE found = $1", found)
    packages = await connection.fetch(
        f"""
        SELECT p.owner || '/' || p.name, count(*) FROM named n
        JOIN package_object po ON po.object_id = n.id JOIN package p ON p.id = po.package_id
        WHERE n.found = $1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {EXAMPLES}
        """,
        found,
    )
    examples = await connection.fetch(
        f"""
        SELECT n.key, n.problem, ARRAY(
            SELECT p.owner || '/' || p.name FROM package_object po JOIN package p ON p.id = po.package_id
            WHERE po.object_id = n.id ORDER BY 1 LIMIT {EXAMPLES})
        FROM named n WHERE n.found = $1 ORDER BY n.key LIMIT {EXAMPLES}
        """,
        found,
    )
    return Problems(count, {row[0]: row[1] for row in packages}, [Problem(*row) for row in examples])


async def _unexpected(connection: Connection, lifetime: int) -> Unexpected:
    """Held against what packages name by now, not against what they named at first."""
    await connection.execute(
        f"""
        CREATE TEMP TABLE unexpected AS
        SELECT l.key, l.size FROM listed l LEFT JOIN ({_NAMED}) n ON n.key = l.key
        WHERE n.key IS NULL AND l.changed_at < '{datetime.now(UTC) - timedelta(seconds=lifetime)}'
        """
    )
    row = await connection.fetchrow("SELECT count(*), coalesce(sum(size), 0)::bigint FROM unexpected")
    assert row is not None
    keys = await connection.fetch(f"SELECT key FROM unexpected ORDER BY key LIMIT {EXAMPLES}")
    return Unexpected(row[0], row[1], [each["key"] for each in keys])


# ------------------------------------------------------------------------------------------------ for people


def lines(stock: Report) -> list[str]:
    """What was found, to be read by people."""
    hashed = f", {stock.hashed:,} of them read and hashed" if stock.hashed else ""
    listed = f" The store has {stock.listed:,}." if stock.listed is not None else ""
    shown = [f"Packages name {stock.named:,} objects{hashed}.{listed}"]
    for title, problems in (("missing", stock.missing), ("damaged", stock.damaged)):
        shown.append(f"{title}     {problems.count:,}")
        shown += [f"  in {package}: {count:,}" for package, count in problems.packages.items()]
        shown += [f"  {each.object} {each.problem} ({', '.join(each.packages)})" for each in problems.examples]
    if stock.unexpected is not None:
        shown.append(f"unexpected  {stock.unexpected.count:,} that no package names, {stock.unexpected.bytes:,} bytes")
        shown += [f"  {key}" for key in stock.unexpected.examples]
    return shown
