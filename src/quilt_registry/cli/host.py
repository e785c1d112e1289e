"""The commands `host install` and `host env`."""

from __future__ import annotations

from pathlib import Path

import click

from quilt_registry.cli import host_files
from quilt_registry.cli.context import DIRECTORY, FILE


@click.group("host")
def host() -> None:
    """Set up a host that runs the registry under systemd."""


@host.command("install")
@click.option("--root", type=DIRECTORY, default=Path("/"), help="Write below this directory and nothing outside of it.")
@click.option(
    "--home", type=DIRECTORY, default=host_files.HOME, show_default=True, help="Home directory of the operator."
)
def install_on_host(root: Path, home: Path) -> None:
    """Write the units, the scripts and the command of this release. It is safe to repeat."""
    for path in host_files.install(root, home):
        click.echo(f"Wrote {path}")


@host.command("env")
@click.option("--out", type=FILE, required=True, help="The file to write.")
@click.option("--owner", help="The only user who can read it. Default: the current user.")
@click.argument("files", type=FILE, nargs=-1, required=True)
def write_env(out: Path, owner: str | None, files: tuple[Path, ...]) -> None:
    """Write the settings from FILES: JSON objects of variables, or the signing key alone."""
    click.echo(f"Wrote {host_files.write_settings(out, files, owner)} settings to {out}.")
