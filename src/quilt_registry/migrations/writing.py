"""Functions that migrations use."""

import contextlib

from alembic import context, op

# How long requests may wait for a change. Less than a second, after which PostgreSQL resolves deadlocks, so that always
# the change fails and not a request.
MAX_CHANGE_TIME = "500ms"
# Autovacuum yields to a lock request after a second. Requests do not wait for this lock.
VACUUM_LOCK_TIMEOUT = "5s"
FILL_BATCH_SIZE = 250  # rows that a step locks at a time


def run(sql: str) -> None:
    """Run statements that end with a semicolon at the end of a line."""
    for statement in sql.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def change(tables: str, sql: str) -> None:
    """Run fast statements on tables in use. If that would block requests, nothing changes and the migration retries.

    All locks are taken at once, because requests wait from the first one on.
    """
    run(f"""
SET LOCAL lock_timeout = '{VACUUM_LOCK_TIMEOUT}';
LOCK TABLE {tables} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL statement_timeout = '{MAX_CHANGE_TIME}';
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;
""")
    run(sql)


def steps() -> contextlib.AbstractContextManager[None]:
    """Return a context manager of a block whose statements commit one by one. Each must be safe to repeat."""
    return op.get_context().autocommit_block()


def build_index(name: str, definition: str) -> None:
    """Build an index in a step. `definition` follows its name. Drop the invalid index that a killed run left."""
    _report(f"Building the index {name}.")
    invalid = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid"
    if op.get_bind().exec_driver_sql(invalid, (name,)).first() is not None:
        drop_index(name)
    run(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}")


def drop_index(name: str) -> None:
    """Drop an unused index in a step."""
    run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def fill(table: str, key: str, sql: str) -> None:
    """Fill old rows in a step. `sql` updates the rows whose integer key is BETWEEN $1 AND $2, and runs in batches."""
    _report(f"Filling {table}.")
    last = op.get_bind().exec_driver_sql(f"SELECT max({key}) FROM {table}").scalar() or 0
    for first in range(1, last + 1, FILL_BATCH_SIZE):
        op.get_bind().exec_driver_sql(sql, (first, first + FILL_BATCH_SIZE - 1))


def _report(message: str) -> None:
    context.config.attributes["report"](message)
