"""The command `sign-out`."""

from __future__ import annotations

import click

from quilt_registry.accounts import sessions
from quilt_registry.cli.context import check_schema, open_database, run_with_database
from quilt_registry.settings import DatabaseSettings


@click.command("sign-out")
@click.argument("user", required=False)
@click.option("--all-users", is_flag=True, help="Sign out all users.")
@click.option("--personal-tokens", is_flag=True, help="Also revoke personal access tokens, which programs use.")
def sign_out(user: str | None, all_users: bool, personal_tokens: bool) -> None:
    """End all sessions of USER, or of all users: in browsers and in clients that used `quilt login`.

    Passwords stay valid. To keep a user out, disable the account.
    """
    if bool(user) == all_users:
        raise click.UsageError("Name a user, or use --all-users.")
    with open_database(DatabaseSettings, join=True) as settings:
        check_schema(settings)
        signed_out = run_with_database(
            settings,
            lambda db: sessions.sign_out_everywhere(db, user, personal_tokens=personal_tokens, by=None),
        )
    if user:
        click.echo(f"Signed out {user}." if signed_out else f"{user} was not signed in.")
    else:
        click.echo(f"Signed out {len(signed_out)} user{'' if len(signed_out) == 1 else 's'}.")
