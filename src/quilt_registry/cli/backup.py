"""The command `backup`."""

from __future__ import annotations

from pathlib import Path

import click

from quilt_registry import settings as settings_module
from quilt_registry.cli import dump
from quilt_registry.cli.context import (
    DIRECTORY,
    FILE,
    check_directory_store,
    interrupt_on_sigterm,
    open_database,
    run_with_database,
)


@click.command("backup")
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="Then bring the objects of a directory store up to date here.")
@click.option("--overwrite", is_flag=True, help="Replace a backup of that name.")
def backup(file: Path, objects: Path | None, overwrite: bool) -> None:
    """Write the database to FILE, and what it holds to FILE.json. The registry may be in use."""
    interrupt_on_sigterm()
    check_directory_store(settings_module.load(), objects)
    with dump.writing(file, overwrite) as new, open_database(join=True) as settings:
        header = run_with_database(settings, lambda db: dump.dump(db, new))
        brought = dump.copy_objects(settings.objects_directory, objects) if objects else 0
        dump.keep(file, new, header)
    click.echo(f"Wrote {file} ({header.bytes:,} bytes): {dump.describe(header)}.")
    if doubt := dump.doubt(header):
        click.echo(f"Warning: {doubt}", err=True)
    if objects:
        click.echo(f"Brought {brought:,} new objects to {objects}.")
