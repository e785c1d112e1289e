"""What migrations are written with."""

import contextlib

from alembic import context, op

# How long requests may wait for a change: less than a second, at which PostgreSQL begins to break up deadlocks, so that
# it is always the change that gives way.
MOMENT = "500ms"
VACUUMS = "5s"  # to end, which they do for whoever waits a second. Nobody waits behind this
BATCH = 250  # rows that a step holds at a time


def run(sql: str) -> None:
    """Run statements that end with a semicolon at the end of a line."""
    for statement in sql.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def change(tables: str, sql: str) -> None:
    """Run fast statements on tables that are in use: all of them soon, or none, and then the migration is tried again.

    All locks are taken at once, since requests wait from the first one on.
    """
    run(f"""
SET LOCAL lock_timeout = '{VACUUMS}';
LOCK TABLE {tables} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL statement_timeout = '{MOMENT}';
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;
""")
    run(sql)


def steps() -> contextlib.AbstractContextManager[None]:
    """A block whose statements each stand alone and can be repeated."""
    return op.get_context().autocommit_block()


def build_index(name: str, definition: str) -> None:
    """A step: an index, `definition` being what follows its name. What a killed run left of it is no use."""
    _tell(f"Building the index {name}.")
    half = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid"
    if op.get_bind().exec_driver_sql(half, (name,)).first() is not None:
        drop_index(name)
    run(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}")


def drop_index(name: str) -> None:
    """A step: one that nobody reads through."""
    run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def fill(table: str, key: str, sql: str) -> None:
    """A step: an UPDATE of a table's rows whose whole-number key is BETWEEN $1 AND $2, repeated for all of them."""
    _tell(f"Filling {table}.")
    last = op.get_bind().exec_driver_sql(f"SELECT max({key}) FROM {table}").scalar() or 0
    for first in range(1, last + 1, BATCH):
        op.get_bind().exec_driver_sql(sql, (first, first + BATCH - 1))


def _tell(says: str) -> None:
    context.config.attributes["tell"](says)
