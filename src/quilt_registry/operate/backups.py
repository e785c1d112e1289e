"""`backup`, `restore`, `verify-objects`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click
import msgspec

from quilt_registry import backup, database, settings as settings_module
from quilt_registry.objects import Objects
from quilt_registry.operate.ground import DIRECTORY, FILE, Stop, check_schema, database_url, opened, run
from quilt_registry.packages import stocktaking
from quilt_registry.settings import Settings

NOT_WHOLE = 5  # exit status


def _stop_like_ctrl_c() -> None:
    """Let SIGTERM end a command as Ctrl-C does: what it left half-made is removed, what it started is ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells switch off in what they run with &
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


@click.command("backup")
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="Then bring the objects of a directory store up to date here.")
@click.option("--overwrite", is_flag=True, help="Replace a backup of that name.")
def make_backup(file: Path, objects: Path | None, overwrite: bool) -> None:
    """Write the database to FILE, and what it holds to FILE.json. The registry may be in use."""
    _stop_like_ctrl_c()
    _check_directory_store(settings_module.load(), objects)
    with backup.writing(file, overwrite) as new, opened(join=True) as settings:
        header = run(settings, lambda db: backup.dump(db, new))
        brought = backup.copy_objects(settings.objects_directory, objects) if objects else 0
        backup.keep(file, new, header)
    click.echo(f"Wrote {file} ({header.bytes:,} bytes): {_contents(header)}.")
    if doubt := backup.doubt(header):
        click.echo(f"Warning: {doubt}", err=True)
    if objects:
        click.echo(f"Brought {brought:,} new objects to {objects}.")


@click.command()
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="First bring the objects from here to the directory store.")
@click.option("--into-empty-schema", is_flag=True, help="Replace the tables of a registry in which there is nothing.")
def restore(file: Path, objects: Path | None, into_empty_schema: bool) -> None:
    """Fill an empty database from a backup, and bring it to this release's schema. No registry may run on it."""
    _stop_like_ctrl_c()
    header = backup.read(file)
    _check_directory_store(settings_module.load(), objects)
    if objects and not (objects / "objs").is_dir():
        raise Stop(f"There are no objects in {objects}: it has no folder objs.")
    with opened() as settings:
        run(settings, lambda db: backup.prepare(db, header, into_empty_schema))
        brought = backup.copy_objects(objects, settings.objects_directory) if objects else 0
        run(settings, lambda db: backup.restore(db, file, header))
        database.migrate(database_url(settings))
        keys = run(settings, backup.finish)
    click.echo(f"Restored {file} of {header.made_at}: {_contents(header)}. {keys} foreign keys hold.")
    if header.revision != database.head():
        click.echo(f"The schema was brought to {database.head()}.")
    if objects:
        click.echo(f"Brought {brought:,} new objects from {objects}.")


def _check_directory_store(settings: Settings, objects: Path | None) -> None:
    if objects and settings.package_bucket_name:
        raise Stop(
            "--objects is for a store in a directory, but the objects of this registry are in the bucket "
            f"{settings.package_bucket_name}. Copy it with the store's own tools, after a backup or before a restore."
        )


def _contents(header: backup.Header) -> str:
    return f"schema {header.revision}, {backup.summary(header.tables)}"


@click.command("verify-objects")
@click.option("--owner", help="Only the objects of this user.")
@click.option("--sample", type=click.IntRange(1), help="Only so many objects, taken at random.")
@click.option("--deep", is_flag=True, help="Read each object and compare its SHA-256, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify_objects(owner: str | None, sample: int | None, deep: bool, as_json: bool) -> None:
    """Hold every object that packages name against the store. Exit status 5 if one is missing or damaged."""
    with opened(join=True) as settings:
        check_schema(settings)
        store, lifetime = Objects(settings), settings.package_url_expiration
        stock = run(settings, lambda db: stocktaking.take(db, store, lifetime, owner, sample, deep))
    click.echo(msgspec.json.encode(stock) if as_json else "\n".join(stocktaking.lines(stock)))
    sys.exit(0 if stock.is_whole else NOT_WHOLE)
