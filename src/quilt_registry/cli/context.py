"""What several commands need: settings with a running database, checks before they start, and option types."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from quilt_registry import schema, settings as settings_module
from quilt_registry.cli import embedded_postgres
from quilt_registry.cli.errors import CommandError
from quilt_registry.database import Database
from quilt_registry.settings import DatabaseSettings, StorageSettings

T = TypeVar("T")
Kind = TypeVar("Kind", bound=DatabaseSettings)

FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
POOL_SIZE = 2
SLOW_QUERY_MS = 86_400_000  # a day, because statements of commands may take long


@contextlib.contextmanager
def open_database(kind: type[Kind], *, join: bool = False) -> Iterator[Kind]:
    """Return settings with the URL of a database. The embedded one runs for the length of the block.

    `kind`: the settings that the command uses; others are not read, so they may be missing or wrong.
    `join`: if a registry already runs the embedded database, use that one.
    """
    settings = settings_module.load_only(kind)
    if settings.database_url:
        yield settings
        return
    home = settings.quilt_home
    try:
        if join and embedded_postgres.in_use(home):
            yield _embedded(settings, embedded_postgres.database_url(home))
        else:
            with embedded_postgres.locked(home), embedded_postgres.running(home) as url:
                yield _embedded(settings, url)
    finally:
        os.environ.pop("DATABASE_URL", None)  # because it is valid inside the block only


def _embedded(settings: Kind, url: str) -> Kind:
    """Put the settings of the embedded mode into the environment, where workers read them, and return them."""
    os.environ["DATABASE_URL"] = url
    if not settings.quilt_secret_key:
        os.environ["QUILT_SECRET_KEY"] = _secret_key(settings.quilt_home / "secret")
    return settings_module.load_only(type(settings))


def _secret_key(path: Path) -> str:
    """Return the signing key, which the first call generates into a file that only its owner can read."""
    with contextlib.suppress(FileNotFoundError):
        if key := path.read_text().strip():
            return key
    key = secrets.token_urlsafe(32)
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    return key


def database_url(settings: DatabaseSettings) -> str:
    """Return the database's URL from settings that `open_database` returned."""
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def run_with_database(settings: DatabaseSettings, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Return the result of `work`, which gets an open database. Raise Unavailable if it does not respond."""

    async def run() -> T:
        db = Database(database_url(settings), POOL_SIZE, slow_ms=SLOW_QUERY_MS)
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())


def check_schema(settings: DatabaseSettings) -> str | None:
    """Return a warning if the schema is of a newer release. Raise CommandError if it is of an older one."""
    current = asyncio.run(schema.revision(database_url(settings)))
    if schema.is_behind(current):
        raise CommandError(
            f"{schema.describe_revision(current)} Run `quilt-registry migrate`, or start with --migrate."
        )
    if not schema.is_ahead(current):
        return None
    return (
        f"{schema.describe_revision(current)} It belongs to a newer release. Only the release right before that one "
        "runs on it. Continue the upgrade, or install the newer release."
    )


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end a command like Ctrl-C, so that it deletes unfinished files and stops its child processes."""
    # Shells ignore SIGINT in background commands, so the handler is set again.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def check_directory_store() -> None:
    """Raise CommandError if the objects are in a bucket, which --objects does not copy."""
    settings = settings_module.load_only(StorageSettings)
    if settings.package_bucket_name:
        raise CommandError(
            f"--objects needs a directory store, but this registry stores objects in the bucket "
            f"{settings.package_bucket_name}. Copy the bucket with the store's own tools, after the backup."
        )
