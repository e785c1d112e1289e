"""The command `migrate`."""

from __future__ import annotations

import asyncio
import sys

import click

from quilt_registry import schema
from quilt_registry.cli.context import check_schema, database_url, open_database
from quilt_registry.settings import DatabaseSettings

EXIT_BEHIND, EXIT_AHEAD = 3, 4


@click.command()
@click.option(
    "--check", "check_only", is_flag=True, help="Change nothing. Exit status 0: up to date, 3: behind, 4: ahead."
)
def migrate(check_only: bool) -> None:
    """Migrate the database to this release's schema. Two migrations at once are safe."""
    with open_database(DatabaseSettings, join=True) as settings:
        if check_only:
            sys.exit(_compare_revisions(settings))
        schema.migrate(database_url(settings), click.echo)
        click.echo(check_schema(settings) or f"The database has the schema {schema.head()}.")


def _compare_revisions(settings: DatabaseSettings) -> int:
    current = asyncio.run(schema.revision(database_url(settings)))
    click.echo(schema.describe_revision(current))
    if schema.is_behind(current):
        return EXIT_BEHIND
    return EXIT_AHEAD if schema.is_ahead(current) else 0
