"""The command `backup`."""

from __future__ import annotations

from pathlib import Path

import click

from quilt_registry.cli import dump, object_copies
from quilt_registry.cli.context import (
    DIRECTORY,
    FILE,
    check_directory_store,
    interrupt_on_sigterm,
    open_database,
    run_with_database,
)
from quilt_registry.settings import DatabaseSettings


@click.command("backup")
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="Then copy new objects of a directory store to this directory.")
@click.option("--overwrite", is_flag=True, help="Replace an existing backup of this name.")
def backup(file: Path, objects: Path | None, overwrite: bool) -> None:
    """Write the database to FILE, and a summary of its contents to FILE.json. The registry may be in use."""
    interrupt_on_sigterm()
    if objects:
        check_directory_store()
    with dump.new_file(file, overwrite=overwrite) as new, open_database(DatabaseSettings, join=True) as settings:
        header = run_with_database(settings, lambda db: dump.dump(db, new))
        copied = object_copies.copy_objects(settings.objects_directory, objects) if objects else 0
        dump.publish(file, new, header)
    click.echo(f"Wrote {file} ({header.bytes:,} bytes): {dump.describe(header)}.")
    if warning := dump.warning(header):
        click.echo(f"Warning: {warning}", err=True)
    if objects:
        click.echo(f"Copied {copied:,} new objects to {objects}.")
