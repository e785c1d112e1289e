"""`migrate`: the schema of the database."""

from __future__ import annotations

import asyncio
import sys

import click

from quilt_registry import schema
from quilt_registry.cli.context import check_schema, database_url, open_database
from quilt_registry.settings import Settings

BEHIND, AHEAD = 3, 4  # exit statuses


@click.command()
@click.option(
    "--check", "only_look", is_flag=True, help="Change nothing. Exit status 0: up to date, 3: behind, 4: ahead."
)
def migrate(only_look: bool) -> None:
    """Bring the database's schema to this release's. Two at once are safe."""
    with open_database(join=True) as settings:
        if only_look:
            sys.exit(_compare_schemas(settings))
        schema.migrate(database_url(settings), click.echo)
        click.echo(check_schema(settings) or f"The database has the schema {schema.head()}.")


def _compare_schemas(settings: Settings) -> int:
    found = asyncio.run(schema.revision(database_url(settings)))
    click.echo(schema.describe_revision(found))
    if schema.is_behind(found):
        return BEHIND
    return AHEAD if schema.is_ahead(found) else 0
