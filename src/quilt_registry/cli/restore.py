"""The command `restore`."""

from __future__ import annotations

from pathlib import Path

import click

from quilt_registry import schema, settings as settings_module
from quilt_registry.cli import dump, restore_dump
from quilt_registry.cli.context import (
    DIRECTORY,
    FILE,
    CommandError,
    check_directory_store,
    database_url,
    interrupt_on_sigterm,
    open_database,
    run_with_database,
)


@click.command()
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="First bring the objects from here to the directory store.")
@click.option("--into-empty-schema", is_flag=True, help="Replace the tables of a registry in which there is nothing.")
def restore(file: Path, objects: Path | None, into_empty_schema: bool) -> None:
    """Fill an empty database from a backup, and bring it to this release's schema. No registry may run on it."""
    interrupt_on_sigterm()
    header = restore_dump.read(file)
    check_directory_store(settings_module.load(), objects)
    if objects and not (objects / "objs").is_dir():
        raise CommandError(f"There are no objects in {objects}: it has no folder objs.")
    with open_database() as settings:
        run_with_database(settings, lambda db: restore_dump.prepare(db, header, into_empty_schema))
        brought = dump.copy_objects(objects, settings.objects_directory) if objects else 0
        run_with_database(settings, lambda db: restore_dump.restore(db, file, header))
        schema.migrate(database_url(settings))
        keys = run_with_database(settings, restore_dump.finish)
    click.echo(f"Restored {file} of {header.made_at}: {dump.describe(header)}. {keys} foreign keys hold.")
    if header.revision != schema.head():
        click.echo(f"The schema was brought to {schema.head()}.")
    if objects:
        click.echo(f"Brought {brought:,} new objects from {objects}.")
