"""The error that ends a command with a message."""

from __future__ import annotations

from typing import IO, Any

import click


class CommandError(click.ClickException):
    """The command cannot continue. Shown without a traceback; the exit status is 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"quilt-registry: {self.message}", file=file, err=file is None)
