"""What commands stand on: a database that runs and has the right schema, and work done with it."""

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
from quilt_registry.database import Database
from quilt_registry.settings import Settings

T = TypeVar("T")

FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
A_DAY = 86_400_000  # milliseconds
NEWER = (
    "It is of a newer release. The release right before that one runs on it, an older one does not: go on with the "
    "upgrade, or install the newer release."
)


class CommandError(Exception):
    """The command cannot go on. Shown as it is, without a traceback; exit status 1."""


@contextlib.contextmanager
def open_database(join: bool = False) -> Iterator[Settings]:
    """The settings with a database that runs: the external one, or the embedded one for the length of the block.

    `join`: where a registry runs already with the embedded one, use it beside that.
    """
    settings = settings_module.load()
    if settings.database_url:
        yield settings
        return
    try:
        if join and embedded_postgres.in_use(settings.quilt_home):
            yield _embedded(settings, embedded_postgres.address(settings.quilt_home))
        else:
            with embedded_postgres.locked(settings.quilt_home), embedded_postgres.running(settings.quilt_home) as url:
                yield _embedded(settings, url)
    finally:
        os.environ.pop("DATABASE_URL", None)  # its address is good for the block only


def _embedded(settings: Settings, url: str) -> Settings:
    """The settings of the embedded set-up, put into the environment, where workers read them."""
    os.environ["DATABASE_URL"] = url
    if not settings.quilt_secret_key:
        os.environ["QUILT_SECRET_KEY"] = _secret(settings.quilt_home / "secret")
    return settings_module.load()


def _secret(path: Path) -> str:
    """The key that signs, made once, in a file that only its owner can read."""
    with contextlib.suppress(FileNotFoundError):
        if text := path.read_text().strip():
            return text
    text = secrets.token_urlsafe(32)
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    return text


def database_url(settings: Settings) -> str:
    """The database's address, of settings with a database that runs."""
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def run_with_database(settings: Settings, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Do something with the database, outside of a server."""

    async def run() -> T:
        db = Database(database_url(settings), 2, slow_ms=A_DAY)  # a command's statements may take their time
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())


def check_schema(settings: Settings) -> str | None:
    """What is to be said of a schema that this release runs on, if anything is. Raises Stop if it does not."""
    found = asyncio.run(schema.revision(database_url(settings)))
    if schema.is_behind(found):
        raise CommandError(f"{schema.describe_revision(found)} Run `quilt-registry migrate`, or start with --migrate.")
    return f"{schema.describe_revision(found)} {NEWER}" if schema.is_ahead(found) else None


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does: what it left half-made is removed, what it started is ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells switch off in what they run with &
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def check_directory_store(settings: Settings, objects: Path | None) -> None:
    if objects and settings.package_bucket_name:
        raise CommandError(
            "--objects is for a store in a directory, but the objects of this registry are in the bucket "
            f"{settings.package_bucket_name}. Copy it with the store's own tools, after a backup or before a restore."
        )
