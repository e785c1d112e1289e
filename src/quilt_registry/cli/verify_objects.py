"""The command `verify-objects`."""

from __future__ import annotations

import sys

import click
import msgspec

from quilt_registry.cli.context import check_schema, open_database, run_with_database
from quilt_registry.maintenance import verify_objects as verification
from quilt_registry.settings import StorageSettings
from quilt_registry.storage.objects import ObjectStore

EXIT_DAMAGED = 5


@click.command("verify-objects")
@click.option("--owner", help="Only the objects of this user.")
@click.option("--sample", type=click.IntRange(1), help="Only this many objects, chosen at random.")
@click.option(
    "--deep", is_flag=True, help="Also read each object, compare its SHA-256, and set it aside if it is wrong."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify_objects(owner: str | None, sample: int | None, deep: bool, as_json: bool) -> None:
    """Compare every object that packages reference with the store. Exit status 5 if one is missing or damaged."""
    with open_database(StorageSettings, join=True) as settings:
        check_schema(settings)
        store, lifetime = ObjectStore(settings), settings.package_url_expiration
        report = run_with_database(
            settings, lambda db: verification.run(db, store, lifetime, owner=owner, sample=sample, deep=deep)
        )
    click.echo(msgspec.json.encode(report) if as_json else verification.describe(report, store))
    sys.exit(0 if report.is_ok else EXIT_DAMAGED)
