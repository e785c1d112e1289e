"""What a token was issued for, which accounts have proven their mailbox, and the links of invitations."""

from quilt_registry.migrations.writing import change

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add columns. Their defaults are right for the rows of the previous release, which does not know them."""
    change(
        "account, token, invitation",
        """
-- False: the account signed up with a password that was chosen before anything proved that its user reads the mailbox.
ALTER TABLE account ADD COLUMN email_proven boolean NOT NULL DEFAULT true;

-- `page`: a browser's cookie; `client`: a token for the API. NULL: issued by the previous release, and works as both.
ALTER TABLE token ADD COLUMN purpose text;

-- SHA-256 of the secret in the link of the latest email. NULL: the previous release sent a link without a secret.
ALTER TABLE invitation ADD COLUMN digest bytea CONSTRAINT invitation_digest UNIQUE;
""",
    )
