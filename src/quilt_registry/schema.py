"""Revision and migration of the database schema."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from quilt_registry.database import ACQUIRE_TIMEOUT, libpq_url, reporting_host, translate
from quilt_registry.errors import Unavailable
from quilt_registry.migrations import TablesInUse

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def _alembic(url: str, report: Callable[[str], None] = log.info) -> Config:
    # Imported here, because it takes a third of a second and 25 MB, and only migrations need it.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes |= {"url": libpq_url(url), "report": report}
    return config


def migrate(url: str, report: Callable[[str], None] = log.info) -> None:
    """Migrate the schema to this release's while the registry is in use. A schema of a newer release stays as it is.

    Two migrations at once are safe: the second one waits and then has nothing to do. A killed migration can be
    repeated. `report` is called for each step. Raise Unavailable if the database does not respond or is too busy.
    """
    if not is_behind(asyncio.run(revision(url))):
        return
    from alembic import command

    try:
        command.upgrade(_alembic(url, report), "head")
    except TablesInUse as error:
        raise Unavailable(str(error)) from error
    except Exception as error:
        translate(error)
        raise


@functools.cache
def revisions() -> tuple[str, ...]:
    """Return the schema revisions that this release knows, the newest first. File names begin with them."""
    known = [path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")]
    return tuple(sorted(known, reverse=True))


def head() -> str:
    """Return the schema revision of this release."""
    return revisions()[0]


def is_behind(current: str | None) -> bool:
    """Return whether a schema is missing or of an older release, so that this release cannot run on it."""
    return current is None or current in revisions()[1:]


def is_ahead(current: str | None) -> bool:
    """Return whether a schema is of a newer release. This release runs on it if that is the next release."""
    return current is not None and current not in revisions()


def describe_revision(current: str | None) -> str:
    """Return a sentence with the revision of the database and that of this release."""
    revision = f"the schema {current}" if current else "no schema yet"
    return f"The database has {revision}, this release needs {head()}."


async def revision(url: str) -> str | None:
    """Return the schema revision of a database, or None if it has no schema. Raise Unavailable."""
    with reporting_host(url):
        connection = await asyncpg.connect(libpq_url(url), timeout=ACQUIRE_TIMEOUT)
    try:
        if not await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
            return None
        current: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return current
    finally:
        await connection.close()
