"""The command `restore`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from quilt_registry import schema, settings as settings_module
from quilt_registry.cli import dump, object_copies, restore_dump
from quilt_registry.cli.context import (
    DIRECTORY,
    FILE,
    database_url,
    interrupt_on_sigterm,
    open_database,
    run_with_database,
)
from quilt_registry.cli.errors import CommandError
from quilt_registry.settings import DatabaseSettings, StorageSettings
from quilt_registry.storage.objects import ObjectStore

MAX_EXAMPLES = 10


@click.command()
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="First copy the objects in this directory to the store.")
@click.option("--into-empty-schema", is_flag=True, help="Replace the registry's tables if none of them has a row.")
def restore(file: Path, objects: Path | None, into_empty_schema: bool) -> None:
    """Restore a backup into an empty database and migrate it to this release's schema. No registry may use it."""
    interrupt_on_sigterm()
    header = restore_dump.read_header(file)
    if objects and not (objects / "objs").is_dir():
        raise CommandError(f"There are no objects in {objects}: it has no directory objs.")
    storage = settings_module.load_only(StorageSettings) if objects else None
    with open_database(DatabaseSettings) as settings:
        run_with_database(settings, lambda db: restore_dump.prepare(db, header, into_empty_schema=into_empty_schema))
        copied, damaged = _copy_objects(objects, storage) if objects and storage else (0, [])
        run_with_database(settings, lambda db: restore_dump.restore(db, file, header))
        schema.migrate(database_url(settings))
        foreign_keys = run_with_database(settings, restore_dump.finish)
    click.echo(f"Restored {file} of {header.made_at}: {dump.describe(header)}. {foreign_keys} foreign keys are valid.")
    if header.revision != schema.head():
        click.echo(f"Migrated the schema to {schema.head()}.")
    if objects:
        click.echo(f"Copied {copied:,} new objects from {objects}.")
    if damaged:
        click.echo(
            f"Warning: {len(damaged):,} objects were not copied, because their contents do not match their SHA-256: "
            f"{', '.join(damaged[:MAX_EXAMPLES])}. `verify-objects` names the packages that reference them.",
            err=True,
        )


def _copy_objects(source: Path, settings: StorageSettings) -> tuple[int, list[str]]:
    """Copy objects to the store. Return the number of new ones, and the keys of damaged ones that were left out."""
    if settings.package_bucket_name:
        return asyncio.run(object_copies.upload_objects(source, ObjectStore(settings)))
    return object_copies.copy_objects(source, settings.objects_directory), []
