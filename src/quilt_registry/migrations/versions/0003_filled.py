"""What 0002 added is filled and indexed, beside the registry in use."""

from quilt_registry.migrations.writing import build_index, drop_index, fill, steps

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Values before indexes, so that old rows enter them once."""
    with steps():
        fill(
            "package",
            "id",
            """
            UPDATE package p SET updated_at = coalesce(
                (SELECT max(i.updated_at) FROM instance i WHERE i.package_id = p.id), p.created_at)
            WHERE p.id BETWEEN $1 AND $2
        """,
        )
        # Rows that this release indexed already know more than their weights tell.
        fill(
            "package_search",
            "package_id",
            """
            UPDATE package_search SET names = ts_filter(words, '{a,b}'), nodes = strip(ts_filter(words, '{c}'))
            WHERE package_id BETWEEN $1 AND $2 AND names = '' AND nodes = ''
        """,
        )
        build_index("package_updated", "ON package (updated_at)")
        build_index("package_search_nodes", "ON package_search USING gin (nodes) WITH (fastupdate = off)")
        # The audit is read a kind at a time, the newest first (auditing.py), by who, to whom, on what package, or as
        # it is.
        build_index("event_kind", "ON event (kind, created_at, id)")
        build_index("event_account_kind", "ON event (account, kind, created_at, id)")
        build_index("event_subject_kind", "ON event (subject, kind, created_at, id) WHERE subject IS NOT NULL")
        build_index("event_package_kind", "ON event (owner, package, kind, created_at, id)")
        # Nothing has read through these yet, and each event is written to every index.
        drop_index("event_account")
        drop_index("event_package")
