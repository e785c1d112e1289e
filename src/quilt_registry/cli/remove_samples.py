"""The command `remove-samples`."""

from __future__ import annotations

import click

from quilt_registry.cli.context import check_schema, open_database, run_with_database
from quilt_registry.packages import samples
from quilt_registry.settings import DatabaseSettings


@click.command("remove-samples")
def remove_samples() -> None:
    """Delete the sample packages of a new registry. Those that have been pushed to since then stay."""
    with open_database(DatabaseSettings, join=True) as settings:
        check_schema(settings)
        removed = run_with_database(settings, samples.remove_all)
    click.echo(f"Removed {' and '.join(removed)}." if removed else "There are no sample packages.")
