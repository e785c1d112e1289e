"""Restoring a dump of the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from quilt_registry import schema
from quilt_registry.cli.dump import (
    SETS_TRANSACTION_TIMEOUT,
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


def read(file: Path) -> Header:
    """The header of a backup that is whole and that this release can restore. Raises Invalid, Conflict."""
    place = sibling(file, ".json")
    try:
        header = msgspec.json.decode(place.read_bytes(), type=Header)
        size = file.stat().st_size
    except OSError as error:
        raise Invalid(f"{error.filename} cannot be read: {error.strerror}. A backup is two files.") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"{place} is not the header of a backup: {error}.") from None
    if size != header.bytes:
        raise Invalid(f"{file} is not whole, or not the file of {place}: it has {size} bytes, not {header.bytes}.")
    if sha256(file) != header.sha256:
        raise Invalid(f"{file} is damaged, or not the file of {place}: its SHA-256 is not {header.sha256}.")
    if schema.is_ahead(header.revision):
        raise Conflict(
            f"{file} has the schema {header.revision} of release {header.release}; this release has "
            f"{schema.head()} and does not know that one. Restore with a newer release."
        )
    return header


async def prepare(db: Database, header: Header, into_empty_schema: bool) -> None:
    """Make sure that a backup can be restored here. Raises Conflict, with nothing touched.

    An empty database can be restored into. With `into_empty_schema` also one with the tables that `migrate` makes, if
    they have no rows: these are removed.
    """
    async with db.connection() as connection:
        _program_to_restore(header, connection.get_server_version().major)
        await _make_empty(connection, into_empty_schema)


async def restore(db: Database, file: Path, header: Header) -> None:
    """Fill an empty database from a backup, as one transaction. Its schema is the backup's afterwards.

    Raises Unavailable, with nothing restored, if pg_restore fails; Conflict if there was a change meanwhile.
    """
    async with db.connection() as connection:
        await lift_timeouts(connection)
        await take_turn(connection)
        program = _program_to_restore(header, connection.get_server_version().major)
        try:
            await run_program(program, db.url, "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges",
                       str(file))  # fmt: skip
        except Unavailable as error:
            raise Unavailable(f"{error}\nNothing was restored: the database is empty.") from None
        except asyncio.CancelledError:
            raise Unavailable("Stopped before the end. Nothing was restored: the database is empty.") from None
        await _compare(connection, header)


def _program_to_restore(header: Header, server: int) -> Path:
    program, major = find_program("pg_restore", header.pg_dump)
    if major >= SETS_TRANSACTION_TIMEOUT > server:
        raise Conflict(
            f"pg_restore of PostgreSQL {major} cannot restore into a server of {server}, and the dump needs one of "
            f"{header.pg_dump} or newer. Restore into PostgreSQL {SETS_TRANSACTION_TIMEOUT} or newer"
            + ("." if header.pg_dump > server else f", or install the client programs of PostgreSQL {server}.")
        )
    return program


async def _make_empty(connection: Connection, into_empty_schema: bool) -> None:
    """Raises Conflict if there is anything in the database that would be lost, or in the way."""
    tables = await count_rows(connection)
    if not tables:
        return
    if not into_empty_schema:
        raise Conflict(
            f"The database holds tables already ({', '.join([*tables][:3])}, …). Restore into a new, empty one; if "
            "these are a registry's tables and have no rows, --into-empty-schema replaces them."
        )
    full = [f"{name} ({count})" for name, count in tables.items() if count and name != "alembic_version"]
    if full or "alembic_version" not in tables:
        raise Conflict(
            "--into-empty-schema replaces a registry's tables that have no rows. "
            + (f"There are rows in {', '.join(full)}." if full else "There are tables here that are not a registry's.")
        )
    async with connection.transaction():
        for row in await connection.fetch(_DROP):
            await connection.execute(row[0])


# What the migrations make, in the schema that they made it in.
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


async def _compare(connection: Connection, header: Header) -> None:
    found = await count_rows(connection)
    differing = [
        f"{name} {found.get(name, 'missing')} instead of {header.tables.get(name, 'none')}"
        for name in sorted({*found, *header.tables})
        if found.get(name) != header.tables.get(name)
    ]
    if differing:
        raise Conflict(
            f"The backup was restored, but its tables have other numbers of rows: {', '.join(differing)}. "
            "Does a registry run on this database already? Stop it, and restore into a new, empty database."
        )


async def finish(db: Database) -> int:
    """Make a restored database ready for use; returns how many foreign keys hold. Raises Conflict if one does not."""
    async with db.connection() as connection:
        await lift_timeouts(connection)
        await connection.execute("ANALYZE")
        rows = await connection.fetch("SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f'")
    wrong = [row["conname"] for row in rows if not row["convalidated"]]
    if wrong:
        raise Conflict(f"These foreign keys do not hold: {', '.join(wrong)}.")
    return len(rows)
