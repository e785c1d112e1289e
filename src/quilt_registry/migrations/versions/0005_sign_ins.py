"""How each session came about, when its password was checked last, and since when users have access."""

from quilt_registry.migrations.writing import change

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add columns, which are NULL in the rows of the previous release: it does not know them."""
    change(
        "access, token",
        """
-- What made a session: `page`, `code` (a client, with a code of a page) or `api` (a client, with a password). NULL:
-- unknown, or a personal token. `browser`: the name of a page session's browser.
ALTER TABLE token ADD COLUMN made_by text, ADD COLUMN browser text;

-- When the password of a session was checked again. NULL: not since the sign-in.
ALTER TABLE token ADD COLUMN confirmed_at timestamptz;

-- NULL: granted before this column was there.
ALTER TABLE access ADD COLUMN granted_at timestamptz;
ALTER TABLE access ALTER COLUMN granted_at SET DEFAULT now();
""",
    )
