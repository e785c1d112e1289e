"""The command `quilt-registry`: what operators run. Each command calls what the web calls."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from quilt_registry import __version__
from quilt_registry.cli import backup, check, create_admin, host, migrate, restore, serve, verify_objects
from quilt_registry.cli.context import CommandError
from quilt_registry.cli.embedded_postgres import EmbeddedError
from quilt_registry.cli.host_files import HostError
from quilt_registry.errors import Refusal
from quilt_registry.settings import SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quilt-registry")
def cli() -> None:
    """A private registry for data packages."""


for command in (
    serve.serve,
    migrate.migrate,
    create_admin.create_admin,
    check.check,
    backup.backup,
    restore.restore,
    verify_objects.verify_objects,
    host.host,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `quilt-registry` command."""
    try:
        cli(standalone_mode=False, prog_name="quilt-registry")
    except (CommandError, SettingsError, EmbeddedError, HostError, Refusal) as error:
        _fail(str(error))
    except click.exceptions.Abort:
        _fail("Stopped.")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


def _fail(message: str) -> NoReturn:
    click.echo(f"quilt-registry: {message}", err=True)
    sys.exit(1)
