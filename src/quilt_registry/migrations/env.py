"""Alembic's environment. It runs migrations one at a time, even if several processes start them."""

import asyncio
import time
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from quilt_registry import migrations

url, report = context.config.attributes["url"], context.config.attributes["report"]


async def _migrate() -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_connect)
    async with engine.connect() as connection:
        await migrations.take_turn((await connection.get_raw_connection()).driver_connection, report=report)
        await connection.run_sync(_run)
    await engine.dispose()


async def _connect() -> asyncpg.Connection:
    """Return a connection without timeouts. The server ends its statements, and its lock, if this process is killed."""
    limits = {"statement_timeout": "0", "lock_timeout": "0", "client_connection_check_interval": "1s"}
    return await asyncpg.connect(url, server_settings={"application_name": "quilt-registry migrate", **limits})


def _run(connection: Connection) -> None:
    """Migrate to the newest revision that this release knows. An unknown revision is newer and stays as it is."""
    context.configure(connection=connection, transaction_per_migration=True, on_version_apply=_report_revision)
    known = {each.revision for each in context.script.walk_revisions()}
    if not known.issuperset(context.get_context().get_current_heads()):
        return
    for attempt in range(migrations.MAX_ATTEMPTS):
        try:
            context.run_migrations()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in migrations.IN_USE_SQLSTATES:
                raise
            if attempt == 0:
                report("Tables that must be changed are in use. Retrying for about a minute.")
            time.sleep(migrations.RETRY_INTERVAL)
        else:
            return
    raise migrations.TablesInUse(
        "Tables that must be changed were in use all the time, by a dump, a long push or a transaction that was left "
        "open. Look in pg_stat_activity for sessions with an old xact_start, and wait for them or end them. Then run "
        "the migration again: it continues where it stopped."
    )


def _report_revision(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001
    report(f"The schema is {step.up_revision.revision} now: {step.up_revision.doc}")


asyncio.run(_migrate())
