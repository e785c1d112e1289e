"""Restoring a dump of the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from quilt_registry import schema
from quilt_registry.cli.dump import (
    TRANSACTION_TIMEOUT_VERSION,
    Header,
    count_rows,
    find_program,
    lift_timeouts,
    run_program,
    sha256,
    sibling,
)
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid, Unavailable
from quilt_registry.migrations import take_turn


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
    async with db.connection() as connection:
        _find_pg_restore(header, connection.get_server_version().major)
        await _make_empty(connection, into_empty_schema=into_empty_schema)


async def restore(db: Database, file: Path, header: Header) -> None:
    """Restore a backup into an empty database in one transaction. The schema is that of the backup.

    Raise Unavailable, with nothing restored, if pg_restore fails; Conflict if the database changed meanwhile.
    """
    async with db.connection() as connection:
        await lift_timeouts(connection)
        await take_turn(connection)
        program = _find_pg_restore(header, connection.get_server_version().major)
        options = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
        try:
            await run_program(program, db.url, *options, str(file))
        except Unavailable as error:
            raise Unavailable(f"{error}\nNothing was restored: the database is empty.") from None
        except asyncio.CancelledError:
            raise Unavailable("Stopped before the end. Nothing was restored: the database is empty.") from None
        await _compare_row_counts(connection, header)


def _find_pg_restore(header: Header, server: int) -> Path:
    program, version = find_program("pg_restore", header.pg_dump)
    if version >= TRANSACTION_TIMEOUT_VERSION > server:
        raise Conflict(
            f"pg_restore of PostgreSQL {version} cannot restore into a server of version {server}, and the dump needs "
            f"version {header.pg_dump} or newer. Restore into PostgreSQL {TRANSACTION_TIMEOUT_VERSION} or newer"
            + ("." if header.pg_dump > server else f", or install the client programs of PostgreSQL {server}.")
        )
    return program


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
