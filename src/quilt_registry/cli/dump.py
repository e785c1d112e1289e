"""Backups: a dump of the database and its header.

FILE is in the custom format of pg_dump. FILE.json is its header: without a matching one, nothing is restored.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from quilt_registry import __version__, schema
from quilt_registry.cli.postgres_programs import find_program, start
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid
from quilt_registry.migrations import take_turn
from quilt_registry.storage.directory import fsync

# The tables whose rows a summary counts, and what it calls them.
SUMMARY_TABLES = {"account": "accounts", "package": "packages", "instance": "versions", "object": "objects"}


class Header(Struct):
    """The contents of a backup. `server` and `pg_dump` are major versions of PostgreSQL, `tables` are row counts."""

    release: str
    revision: str
    made_at: str
    server: int
    pg_dump: int
    bytes: int
    sha256: str
    tables: dict[str, int]


async def count_contents(db: Database) -> dict[str, int]:
    """Return the row counts that a summary needs, by table."""
    return {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in SUMMARY_TABLES}


def summary(tables: Mapping[str, int]) -> str:
    return ", ".join(f"{tables.get(table, 0):,} {noun}" for table, noun in SUMMARY_TABLES.items())


def describe(header: Header) -> str:
    return f"schema {header.revision}, {summary(header.tables)}"


# ------------------------------------------------------------------------------------------------ backup


@contextlib.contextmanager
def new_file(file: Path, *, overwrite: bool) -> Iterator[Path]:
    """Create the file for a dump, readable by its owner only. Delete it if the block raises an error.

    Raise Conflict if a backup exists or another one is being written, Invalid if the file cannot be created.
    """
    existing = [each for each in (file, sibling(file, ".json")) if each.exists()]
    if existing and not overwrite:
        raise Conflict(f"{existing[0]} exists. Choose another name, or add --overwrite.")
    new = sibling(file, ".new")
    try:
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Invalid(f"{new} cannot be written: {error.strerror}.") from None
    with open(descriptor, "rb") as locked:
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another backup is being written to {new}.") from None
        try:
            yield new
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def sibling(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


async def dump(db: Database, new: Path) -> Header:
    """Dump a consistent state of the database while it is in use.

    Raise Invalid if the database contains no registry, Conflict if no suitable pg_dump exists, Unavailable if it fails.
    """
    async with db.connection() as connection:
        await lift_timeouts(connection)
        # A migration would wait for the dump anyway, but block all other statements meanwhile. Taken before the
        # transaction, because its snapshot must be later than a migration that this waited for.
        await take_turn(connection, shared=True)
        server = connection.get_server_version().major
        program, major = find_program("pg_dump", server)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            tables = await count_rows(connection)
            if "alembic_version" not in tables:
                raise Invalid("The database contains no registry, so there is nothing to back up.")
            revision = await connection.fetchval("SELECT version_num FROM alembic_version")
            options = ("--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={new}")
            async with start(program, *options, url=db.url) as running:
                await running.finish()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(__version__, revision, now, server, major, _size(new), sha256(new), tables)


def publish(file: Path, new: Path, header: Header) -> None:
    """Give a dump and its header their final names, durably.

    The header comes first, so that a FILE is always complete and has its header.
    """
    new_header = sibling(file, ".json.new")
    new_header.write_bytes(msgspec.json.format(msgspec.json.encode(header)) + b"\n")
    for each in (new_header, new, new.parent):
        fsync(each)
    new_header.rename(sibling(file, ".json"))
    new.rename(file)
    fsync(file.parent)


def warning(header: Header) -> str | None:
    """Return a warning if this release cannot restore the backup."""
    if schema.is_ahead(header.revision):
        return (
            f"the schema {header.revision} belongs to a newer release than this one. Only that release can restore "
            "this backup."
        )
    return None


def _size(file: Path) -> int:
    return file.stat().st_size


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------ the database


async def lift_timeouts(connection: Connection) -> None:
    """Remove the timeouts of requests."""
    await connection.execute("SET statement_timeout = 0")
    await connection.execute("SET idle_in_transaction_session_timeout = 0")


# Tables that belong neither to PostgreSQL nor to an extension.
_TABLES = r"""
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1
"""


async def count_rows(connection: Connection) -> dict[str, int]:
    """Return the row count of each table."""
    names = [row[0] for row in await connection.fetch(_TABLES)]
    return {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in names}
