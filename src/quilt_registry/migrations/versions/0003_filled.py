"""Fill and index the columns of 0002 while the registry is in use."""

from quilt_registry.migrations.writing import build_index, drop_index, fill, steps

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Fill before indexing, so that old rows enter the indexes once."""
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
        # Rows that this release has written contain more than can be derived from the weights.
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
        # The audit is read one kind at a time, newest first (audit.py): by user, by affected user, by package, or
        # without a filter.
        build_index("event_kind", "ON event (kind, created_at, id)")
        build_index("event_account_kind", "ON event (account, kind, created_at, id)")
        build_index("event_subject_kind", "ON event (subject, kind, created_at, id) WHERE subject IS NOT NULL")
        build_index("event_package_kind", "ON event (owner, package, kind, created_at, id)")
        # Nothing uses these indexes, and each event would be written to them.
        drop_index("event_account")
        drop_index("event_package")
