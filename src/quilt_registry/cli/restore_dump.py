"""Restoring a dump of the database."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Set
from pathlib import Path

import msgspec

from quilt_registry import schema
from quilt_registry.cli.dump import Header, count_rows, lift_timeouts, sha256, sibling
from quilt_registry.cli.postgres_programs import find_program, start
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid, Unavailable
from quilt_registry.migrations import take_turn

CHUNK_SIZE = 1 << 18  # bytes


def read_header(file: Path) -> Header:
    """Return the header of a backup. Raise Invalid if the backup is damaged, Conflict if its schema is too new."""
    header_file = sibling(file, ".json")
    try:
        header = msgspec.json.decode(header_file.read_bytes(), type=Header)
        size = file.stat().st_size
    except OSError as error:
        raise Invalid(
            f"{error.filename} cannot be read: {error.strerror}. A backup consists of FILE and FILE.json."
        ) from None
    except msgspec.DecodeError as error:
        raise Invalid(f"{header_file} is not the header of a backup: {error}.") from None
    if size != header.bytes:
        raise Invalid(
            f"{file} is incomplete or does not belong to {header_file}: it has {size} bytes, not {header.bytes}."
        )
    if sha256(file) != header.sha256:
        raise Invalid(f"{file} is damaged or does not belong to {header_file}: its SHA-256 is not {header.sha256}.")
    if schema.is_ahead(header.revision):
        raise Conflict(
            f"{file} has the schema {header.revision} of release {header.release}. This release has {schema.head()} "
            "and does not know that schema. Restore with a newer release."
        )
    return header


async def prepare(db: Database, header: Header, *, into_empty_schema: bool) -> None:
    """Make sure that a backup can be restored into this database. Raise Conflict before anything is changed.

    The database must be empty. With `into_empty_schema` it may have the registry's tables, if none of them has a row;
    they are dropped.
    """
    find_program("pg_restore", header.pg_dump)
    async with db.connection() as connection:
        await _check_encoding(connection)
        await _make_empty(connection, into_empty_schema=into_empty_schema)


async def restore(db: Database, file: Path, header: Header) -> None:
    """Restore a backup into an empty database in one transaction. The schema is that of the backup.

    Raise Unavailable, with nothing restored, if the dump cannot be loaded; Conflict if the database changed meanwhile.
    """
    async with db.connection() as connection:
        await lift_timeouts(connection)
        await take_turn(connection)
        program, _ = find_program("pg_restore", header.pg_dump)
        settings = {row[0] for row in await connection.fetch("SELECT name FROM pg_settings")}
        try:
            await _load(program, file, db.url, settings)
        except Unavailable as error:
            raise Unavailable(f"{error}\nNothing was restored: the database is empty.") from None
        except asyncio.CancelledError:
            raise Unavailable("Stopped before the end. Nothing was restored: the database is empty.") from None
        await _compare_row_counts(connection, header)


async def _load(pg_restore: Path, file: Path, url: str, settings: Set[str]) -> None:
    """Load a dump in one transaction: pg_restore writes it as a script, which psql runs.

    pg_restore cannot do it alone, because it begins with the settings of its own version. A server that lacks one of
    them, such as transaction_timeout before PostgreSQL 17, would refuse the whole dump.
    """
    script = start(pg_restore, "--no-owner", "--no-privileges", "--file=-", str(file), stdout=PIPE)
    options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    async with script as reading, start(pg_restore.with_name("psql"), *options, url=url, stdin=PIPE) as loading:
        source, target = reading.process.stdout, loading.process.stdin
        assert source
        assert target
        try:
            target.write(b"BEGIN;\n")
            async for line in _head(source, settings):
                target.write(line)
            while chunk := await source.read(CHUNK_SIZE):
                target.write(chunk)
                await target.drain()
            await reading.finish()
            target.write(b"COMMIT;\n")  # of a complete script only
            await target.drain()
        except ConnectionError:
            pass  # psql has ended, and says why
        target.close()
        await loading.finish()


async def _head(script: asyncio.StreamReader, settings: Set[str]) -> AsyncIterator[bytes]:
    """Yield the lines of a script up to its first command, without settings that the server does not have."""
    async for line in script:
        setting = re.match(rb"SET (\w+) = ", line)
        if setting is None or setting[1].decode() in settings:
            yield line
        if not re.match(rb"SET |SELECT pg_catalog.set_config|--|\\restrict|\s*$", line):
            return


async def _check_encoding(connection: Connection) -> None:
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise Conflict(
            f"The database has the encoding {encoding}. Create it anew, with UTF8: "
            "createdb --template=template0 --encoding=UTF8 NAME."
        )


async def _make_empty(connection: Connection, *, into_empty_schema: bool) -> None:
    """Drop the registry's empty tables. Raise Conflict if the database has anything else."""
    tables = await count_rows(connection)
    if not tables:
        return
    if not into_empty_schema:
        raise Conflict(
            f"The database contains tables ({', '.join([*tables][:3])}, …). Restore into a new, empty database. If "
            "these are a registry's tables without rows, --into-empty-schema replaces them."
        )
    filled = [f"{name} ({count})" for name, count in tables.items() if count and name != "alembic_version"]
    if filled or "alembic_version" not in tables:
        raise Conflict(
            "--into-empty-schema replaces a registry's tables only if they have no rows. "
            + (
                f"These have rows: {', '.join(filled)}."
                if filled
                else "The tables of this database are not a registry's."
            )
        )
    async with connection.transaction():
        for row in await connection.fetch(_DROP):
            await connection.execute(row[0])


# What migrations create, in the schema that they created it in.
_DROP = """
    WITH place AS (SELECT relnamespace AS oid FROM pg_class WHERE oid = 'alembic_version'::regclass)
    SELECT format('DROP TABLE %s CASCADE', c.oid::regclass) FROM pg_class c, place
    WHERE c.relnamespace = place.oid AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT format('DROP FUNCTION %s', p.oid::regprocedure) FROM pg_proc p, place
    WHERE p.pronamespace = place.oid AND p.prorettype = 'trigger'::regtype
    UNION ALL
    SELECT format('DROP TEXT SEARCH CONFIGURATION %s', c.oid::regconfig) FROM pg_ts_config c, place
    WHERE c.cfgnamespace = place.oid
    UNION ALL
    SELECT format('DROP TEXT SEARCH DICTIONARY %s', d.oid::regdictionary) FROM pg_ts_dict d, place
    WHERE d.dictnamespace = place.oid
"""


async def _compare_row_counts(connection: Connection, header: Header) -> None:
    tables = await count_rows(connection)
    differences = [
        f"{name} {tables.get(name, 'missing')} instead of {header.tables.get(name, 'none')}"
        for name in sorted({*tables, *header.tables})
        if tables.get(name) != header.tables.get(name)
    ]
    if differences:
        raise Conflict(
            f"The backup was restored, but the row counts of its tables differ: {', '.join(differences)}. If a "
            "registry uses this database, stop it and restore into a new, empty database."
        )


async def finish(db: Database) -> int:
    """Update the planner statistics and return the number of foreign keys. Raise Conflict if one is not valid."""
    async with db.connection() as connection:
        await lift_timeouts(connection)
        await connection.execute("ANALYZE")
        rows = await connection.fetch("SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f'")
    invalid = [row["conname"] for row in rows if not row["convalidated"]]
    if invalid:
        raise Conflict(f"These foreign keys are not valid: {', '.join(invalid)}.")
    return len(rows)
