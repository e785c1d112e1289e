"""The schema's history, written as SQL. A migration only adds, so that the release before it still runs beside it."""

from alembic import op

LOCK = 0x5155494C54  # "QUILT": the advisory lock that makes a second migrate, and one beside a backup, wait


def run(sql: str) -> None:
    """Run statements that end with a semicolon at the end of a line."""
    for statement in sql.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
