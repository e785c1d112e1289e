"""The command `quilt-registry` for operators. Its commands call the same operations as the API and the web pages."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from quilt_registry import __version__
from quilt_registry.cli import (
    backup,
    check,
    create_admin,
    host,
    migrate,
    remove_samples,
    restore,
    serve,
    sign_out,
    verify_objects,
)
from quilt_registry.cli.errors import CommandError
from quilt_registry.errors import Refusal
from quilt_registry.settings import SettingsError


class _Group(click.Group):
    """A group of commands. It turns the errors that users can fix into CommandError."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, Refusal) as error:
            raise CommandError(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quilt-registry")
def cli() -> None:
    """Run and maintain a Quilt Registry, a private registry for data packages."""


for command in (
    serve.serve,
    migrate.migrate,
    create_admin.create_admin,
    sign_out.sign_out,
    check.check,
    remove_samples.remove_samples,
    backup.backup,
    restore.restore,
    verify_objects.verify_objects,
    host.host,
):
    cli.add_command(command)


def main() -> None:
    """Run the command `quilt-registry`."""
    try:
        cli(standalone_mode=False, prog_name="quilt-registry")
    except click.ClickException as error:
        _exit(error)
    except click.Abort:
        _exit(CommandError("Stopped."))


def _exit(error: click.ClickException) -> NoReturn:
    error.show()
    sys.exit(error.exit_code)
