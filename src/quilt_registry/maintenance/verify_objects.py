"""Comparison of the objects that packages reference with those in the store, and removal of damaged ones.

Both lists go into temporary tables, so that memory does not grow with the registry. Pushes may continue meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.errors import NotFound
from quilt_registry.maintenance import damage
from quilt_registry.storage.objects import ObjectState, ObjectStore

MAX_EXAMPLES = 10
LOOKUP_BATCH_SIZE = 100  # small enough that a bucket answers a HEAD for each object instead of listing all
CONCURRENT_HASHES = 8
MAX_PUSH_DURATION = 3600  # seconds; objects may reach the store that much later than `created_at`


class Problem(Struct):
    """A missing or damaged object, and up to ten of the packages that reference it, as `owner/name`."""

    object: str
    problem: str
    packages: list[str]


class Problems(Struct):
    """Missing or damaged objects: their number, their number in up to ten packages, and up to ten examples."""

    count: int
    packages: dict[str, int]
    examples: list[Problem]


class Unexpected(Struct):
    """Objects in the store that no package references and no running push can reference; the keys of up to ten."""

    count: int
    bytes: int
    examples: list[str]


class Report(Struct):
    """The result of a comparison, in numbers of objects. `listed` and `unexpected` are None for a sample.

    `set_aside` damaged objects were taken out of the store, and `restored` ones were found intact again.
    """

    named: int
    listed: int | None
    hashed: int
    set_aside: int
    restored: int
    missing: Problems
    damaged: Problems
    unexpected: Unexpected | None

    @property
    def is_ok(self) -> bool:
        return not self.missing.count and not self.damaged.count


class Hashes(Struct):
    """Numbers of objects that were hashed, that were set aside, and that were restored."""

    hashed: int = 0
    set_aside: int = 0
    restored: int = 0


async def run(
    db: Database,
    store: ObjectStore,
    lifetime: int,
    *,
    owner: str | None = None,
    sample: int | None = None,
    deep: bool = False,
) -> Report:
    """Compare all objects, those of one owner, or a random sample of a given size.

    `deep` also hashes each object in the store. It sets damaged ones aside, so that the next push uploads them again,
    and lets packages use those again that were damaged and are intact.

    Objects of a sample are looked up one by one, so that unexpected ones are not found. `lifetime` is that of presigned
    URLs, in seconds: a running push may still reference younger objects. Raise NotFound for an unknown owner,
    Unavailable.
    """
    async with db.session() as connection:
        if owner and not await connection.fetchval("SELECT id FROM account WHERE name = $1", owner):
            raise NotFound(f"There is no user {owner}.")
        await connection.execute("SET statement_timeout = 0")
        named = await _collect_named(connection, owner, sample)
        if sample is None:
            await _list_store(connection, store, owner)
        else:
            await _look_up(connection, store, "true")
        await _compare(connection)
        if sample is None:
            await _look_up_recent(connection, store)
        hashes = await _hash(db, connection, store) if deep else Hashes()
        return Report(
            named=named,
            listed=None if sample is not None else await connection.fetchval("SELECT count(*) FROM listed"),
            hashed=hashes.hashed,
            set_aside=hashes.set_aside,
            restored=hashes.restored,
            missing=await _problems(connection, "missing"),
            damaged=await _problems(connection, "damaged"),
            unexpected=None if sample is not None else await _unexpected(connection, lifetime),
        )


# Objects that a package references.
_NAMED = """
    SELECT o.id, 'objs/' || a.name || '/' || encode(o.digest, 'hex') AS key, o.size, o.state, o.created_at
    FROM object o JOIN account a ON a.id = o.owner_id
    WHERE EXISTS (SELECT FROM package_object po WHERE po.object_id = o.id)
"""


async def _collect_named(connection: Connection, owner: str | None, sample: int | None) -> int:
    await connection.execute(
        "CREATE TEMP TABLE named (id bigint PRIMARY KEY, key text, size bigint, state smallint, created_at timestamptz,"
        " is_listed boolean, found text, problem text)"
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


async def _look_up(connection: Connection, store: ObjectStore, condition: str) -> None:
    """Look up the referenced objects that meet a condition, and add those in the store to the list."""
    last = 0
    while rows := await connection.fetch(
        f"SELECT id, key FROM named WHERE id > $1 AND {condition} ORDER BY id LIMIT {LOOKUP_BATCH_SIZE}", last
    ):
        sizes = await store.sizes([row["key"] for row in rows])
        await connection.copy_records_to_table(
            "listed", columns=["key", "size"], records=[(key, size) for key, size in sizes.items()]
        )
        last = rows[-1]["id"]


async def _compare(connection: Connection) -> None:
    """Mark missing and damaged objects. Those known to be damaged are not missing: the registry removed them."""
    await connection.execute("UPDATE named SET found = NULL, problem = NULL WHERE found IS NOT NULL")
    await connection.execute("UPDATE named n SET is_listed = true FROM listed l WHERE l.key = n.key")
    await connection.execute(
        f"""
        UPDATE named n SET
            found = CASE WHEN n.state <> {ObjectState.DAMAGED} AND l.key IS NULL THEN 'missing' ELSE 'damaged' END,
            problem = CASE WHEN n.state = {ObjectState.DAMAGED} THEN 'was found damaged; push it again to repair it'
                           WHEN l.key IS NULL THEN 'is not in the store'
                           ELSE format('has %s bytes instead of %s', l.size, n.size) END
        FROM named same LEFT JOIN listed l ON l.key = same.key
        WHERE same.id = n.id AND (n.state = {ObjectState.DAMAGED} OR l.key IS NULL OR l.size <> n.size)
        """
    )


async def _look_up_recent(connection: Connection, store: ObjectStore) -> None:
    """Look up recent objects again, because they may have been stored after their part of the store was listed."""
    recent = f"found = 'missing' AND created_at > now() - make_interval(secs => {MAX_PUSH_DURATION})"
    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM named WHERE {recent})"):
        await _look_up(connection, store, recent)
        await _compare(connection)


async def _hash(db: Database, connection: Connection, store: ObjectStore) -> Hashes:
    """Hash the objects in the store. Contents decide: an old client may have stored an object as gzip, of another size.

    Set damaged objects aside, and mark those as intact that were known to be damaged and are not.
    """
    last, done = 0, Hashes()
    while rows := await connection.fetch(
        f"SELECT id, key, state FROM named WHERE id > $1 AND is_listed ORDER BY id LIMIT {CONCURRENT_HASHES}", last
    ):
        intact = await asyncio.gather(*(store.is_intact(row["key"], row["key"][-64:]) for row in rows))
        by_result = {True: [], False: []}  # type: dict[bool, list[Any]]
        for row, is_intact in zip(rows, intact, strict=True):
            by_result[is_intact].append(row)
        await _note(connection, by_result[True], None, None)
        await _note(connection, by_result[False], "damaged", "does not match its SHA-256")
        done.set_aside += len(await damage.set_aside_damaged(db, store, [row["key"] for row in by_result[False]]))
        restored = [row["key"] for row in by_result[True] if row["state"] == ObjectState.DAMAGED]
        await damage.mark_intact(db, restored)
        done.restored += len(restored)
        last, done.hashed = rows[-1]["id"], done.hashed + len(rows)
    return done


async def _note(connection: Connection, rows: list[Any], found: str | None, problem: str | None) -> None:
    ids = [row["id"] for row in rows]
    await connection.execute(
        "UPDATE named SET found = $2, problem = $3 WHERE id = ANY($1::bigint[])", ids, found, problem
    )


async def _problems(connection: Connection, found: str) -> Problems:
    count = await connection.fetchval("SELECT count(*) FROM named WHERE found = $1", found)
    packages = await connection.fetch(
        f"""
        SELECT p.owner || '/' || p.name, count(*) FROM named n
        JOIN package_object po ON po.object_id = n.id JOIN package p ON p.id = po.package_id
        WHERE n.found = $1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MAX_EXAMPLES}
        """,
        found,
    )
    examples = await connection.fetch(
        f"""
        SELECT n.key, n.problem, ARRAY(
            SELECT p.owner || '/' || p.name FROM package_object po JOIN package p ON p.id = po.package_id
            WHERE po.object_id = n.id ORDER BY 1 LIMIT {MAX_EXAMPLES})
        FROM named n WHERE n.found = $1 ORDER BY n.key LIMIT {MAX_EXAMPLES}
        """,
        found,
    )
    return Problems(count, {row[0]: row[1] for row in packages}, [Problem(*row) for row in examples])


async def _unexpected(connection: Connection, lifetime: int) -> Unexpected:
    # Compared with the references of now, because pushes since the start of the comparison may have added some.
    await connection.execute(
        f"""
        CREATE TEMP TABLE unexpected AS
        SELECT l.key, l.size FROM listed l LEFT JOIN ({_NAMED}) n ON n.key = l.key
        WHERE n.key IS NULL AND l.changed_at < '{datetime.now(UTC) - timedelta(seconds=lifetime)}'
        """
    )
    row = await connection.fetchrow("SELECT count(*), coalesce(sum(size), 0)::bigint FROM unexpected")
    assert row is not None
    keys = await connection.fetch(f"SELECT key FROM unexpected ORDER BY key LIMIT {MAX_EXAMPLES}")
    return Unexpected(row[0], row[1], [each["key"] for each in keys])


# ------------------------------------------------------------------------------------------------ output


def describe(report: Report, store: ObjectStore) -> str:
    """Return a report as text for operators."""
    hashed = f", of which {report.hashed:,} were hashed" if report.hashed else ""
    listed = f" The store has {report.listed:,}." if report.listed is not None else ""
    lines = [f"Packages reference {report.named:,} objects{hashed}.{listed}"]
    for title, problems in (("Missing", report.missing), ("Damaged", report.damaged)):
        lines.append(f"{title}: {problems.count:,}")
        lines += [f"  {package}: {count:,}" for package, count in problems.packages.items()]
        lines += [f"  {each.object} {each.problem} ({', '.join(each.packages)})" for each in problems.examples]
    if report.unexpected is not None:
        count, size = report.unexpected.count, report.unexpected.bytes
        lines.append(f"Not referenced by any package: {count:,} ({size:,} bytes)")
        lines += [f"  {key}" for key in report.unexpected.examples]
    return "\n".join([*lines, *_advice(report, store)])


def _advice(report: Report, store: ObjectStore) -> Iterator[str]:
    """Yield what was done about damage, and what the operator can do."""
    directory = store.directory
    if report.restored:
        yield f"Intact again: {report.restored:,} objects that were damaged before. Packages use them again."
    if report.set_aside:
        yield (
            f"Set aside: {report.set_aside:,} damaged objects, now in {directory.root / 'quarantine'}."
            if directory
            else f"Deleted: {report.set_aside:,} damaged objects. A versioned bucket keeps noncurrent versions of them."
        )
    if report.missing.count or report.damaged.count:
        place = directory.root / "objs" if directory else "the bucket"
        yield (
            "To repair a package, push it again from a computer that has it: the push uploads what is missing or was "
            f"set aside. Or copy the objects from a backup to {place}, and run verify-objects --deep."
        )
    if report.damaged.count and not report.hashed:
        yield "Run verify-objects --deep to set damaged objects aside. Until then, some may not be uploaded again."
