"""The command `create-admin`."""

from __future__ import annotations

import sys

import click

from quilt_registry.accounts import users
from quilt_registry.cli.context import check_schema, open_database, run_with_database
from quilt_registry.settings import DatabaseSettings


@click.command("create-admin")
@click.option("--username", prompt="Username", help="Lower-case letters, digits and _.")
@click.option("--email", prompt="Email address", help="Email address of the admin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of prompting.")
def create_admin(username: str, email: str, password_stdin: bool) -> None:
    """Create an admin. Prompts for missing values."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with open_database(DatabaseSettings, join=True) as settings:
        check_schema(settings)
        run_with_database(settings, lambda db: users.create(db, username, email, password, is_admin=True))
    click.echo(f"Created the admin {username}.")
