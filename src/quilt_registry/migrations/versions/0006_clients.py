"""What sent the request that caused an event."""

from quilt_registry.migrations.writing import build_index, change, steps

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add a column, which is NULL in the rows of the previous release: it does not know it."""
    change(
        "event",
        """
-- `cli` (the command line), `web` (a page) or `other` (another program). NULL: unknown, or no request.
ALTER TABLE event ADD COLUMN client text;
""",
    )
    with steps():
        build_index("event_client_kind", "ON event (client, kind, created_at, id) WHERE client IS NOT NULL")
