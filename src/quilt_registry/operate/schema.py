"""`migrate`: the schema of the database."""

from __future__ import annotations

import asyncio
import sys

import click

from quilt_registry import database
from quilt_registry.operate.ground import check_schema, database_url, opened
from quilt_registry.settings import Settings

BEHIND, AHEAD = 3, 4  # exit statuses


@click.command()
@click.option(
    "--check", "only_look", is_flag=True, help="Change nothing. Exit status 0: up to date, 3: behind, 4: ahead."
)
def migrate(only_look: bool) -> None:
    """Bring the database's schema to this release's. Two at once are safe."""
    with opened(join=True) as settings:
        if only_look:
            sys.exit(_compare_schemas(settings))
        database.migrate(database_url(settings), click.echo)
        click.echo(check_schema(settings) or f"The database has the schema {database.head()}.")


def _compare_schemas(settings: Settings) -> int:
    found = asyncio.run(database.revision(database_url(settings)))
    click.echo(database.standing(found))
    if database.is_behind(found):
        return BEHIND
    return AHEAD if database.is_ahead(found) else 0
