"""Runs the migrations: one at a time, however many processes ask."""

import asyncio
import time
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from quilt_registry import migrations

url, tell = context.config.attributes["url"], context.config.attributes["tell"]


async def _migrate() -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_connect)
    async with engine.connect() as connection:
        await migrations.take_turn((await connection.get_raw_connection()).driver_connection, tell=tell)
        await connection.run_sync(_run)
    await engine.dispose()


async def _connect() -> asyncpg.Connection:
    """A connection whose statements take their time, but not beyond the life of this process: its lock goes with it."""
    limits = {"statement_timeout": "0", "lock_timeout": "0", "client_connection_check_interval": "1s"}
    return await asyncpg.connect(url, server_settings={"application_name": "quilt-registry migrate", **limits})


def _run(connection: Connection) -> None:
    """Bring the schema to the newest that this release knows. One that it does not know is newer, and stays."""
    context.configure(connection=connection, transaction_per_migration=True, on_version_apply=_applied)
    known = {each.revision for each in context.script.walk_revisions()}
    if not known.issuperset(context.get_context().get_current_heads()):
        return
    for attempt in range(migrations.TRIES):
        try:
            context.run_migrations()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in migrations.IN_USE:
                raise
            if attempt == 0:
                tell("Tables that must be changed are in use. Trying again for about a minute.")
            time.sleep(migrations.PAUSE)
        else:
            return
    raise migrations.TablesInUse(
        "Tables that must be changed were in use all the time: by a dump, a long push or a transaction that was left "
        "open. pg_stat_activity shows them, the oldest xact_start first. Let them end, then repeat; the migration goes "
        "on where it is."
    )


def _applied(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001
    tell(f"The schema is {step.up_revision.revision} now: {step.up_revision.doc}")


asyncio.run(_migrate())
