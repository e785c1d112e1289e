"""${message}"""

from quilt_registry.migrations.writing import run

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    run("""
    """)
