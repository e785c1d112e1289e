"""The database schema: its revision, and migrations to this release's."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from quilt_registry.database import ACQUIRE_TIMEOUT, libpq_url, translate
from quilt_registry.errors import Unavailable
from quilt_registry.migrations import TablesInUse

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def _alembic(url: str, tell: Callable[[str], None] = log.info) -> Config:
    # Imported only by those who migrate: it takes a third of a second and 25 MB.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes |= {"url": libpq_url(url), "tell": tell}
    return config


def migrate(url: str, tell: Callable[[str], None] = log.info) -> None:
    """Bring the schema to this release's, beside whoever uses it; a schema of a newer release is left as it is.

    Two at once are safe: the second waits, then finds nothing to do. One that is killed can be repeated. `tell` hears
    of each step. Raises Unavailable when the database does not answer, or is too busy to be changed.
    """
    if not is_behind(asyncio.run(revision(url))):
        return
    from alembic import command

    try:
        command.upgrade(_alembic(url, tell), "head")
    except TablesInUse as error:
        raise Unavailable(str(error)) from error
    except Exception as error:
        translate(error)
        raise


@functools.cache
def revisions() -> tuple[str, ...]:
    """The schema revisions that this release knows, its own first. Their files are named and sorted by them."""
    found = [path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")]
    return tuple(sorted(found, reverse=True))


def head() -> str:
    """The schema revision of this release."""
    return revisions()[0]


def is_behind(found: str | None) -> bool:
    """Whether a schema is of a release before this one, or there is none: this release cannot run on it."""
    return found is None or found in revisions()[1:]


def is_ahead(found: str | None) -> bool:
    """Whether a schema is of a newer release. If that is the next one, this release runs on it."""
    return found is not None and found not in revisions()


def describe_revision(found: str | None) -> str:
    """What schema there is, and which one this release has."""
    return f"The database has the schema {found or 'of nothing yet'}, this release needs {head()}."


async def revision(url: str) -> str | None:
    """The schema revision of a database; None where there is none. Raises Unavailable."""
    try:
        connection = await asyncpg.connect(libpq_url(url), timeout=ACQUIRE_TIMEOUT)
    except Exception as error:
        translate(error)
        raise
    try:
        if not await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
            return None
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return found
    finally:
        await connection.close()
