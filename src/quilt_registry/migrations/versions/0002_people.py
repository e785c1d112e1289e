"""People: activation and reset links, personal tokens, letters, invitations, comments, limits, the audit trail."""

from quilt_registry.migrations.writing import change

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rows of token are written anew for their id. 100,000 sign-ins take half a second, and more of them their time."""
    change(
        "account, token, package, instance, package_search, event",
        """
-- Registered, but the link in the letter was not followed yet. Such an account is not active.
ALTER TABLE account ADD COLUMN awaits_activation boolean NOT NULL DEFAULT false;

-- A token with a name is a personal one, made by its owner for machines; the others are sign-ins.
SET LOCAL statement_timeout = '10s';
ALTER TABLE token
    ADD COLUMN id         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN name       text,
    ADD COLUMN read_only  boolean NOT NULL DEFAULT false,
    ADD COLUMN last_used  timestamptz,
    ADD CONSTRAINT token_name UNIQUE (account_id, name);

-- What a letter carries to activate an account or to choose a password. Here is only its SHA-256.
CREATE TABLE link (
    digest      bytea PRIMARY KEY,
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    purpose     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX link_account ON link (account_id, purpose);

-- Letters on their way. One that was sent is gone from here; one that cannot be delivered stays, without a next try.
CREATE TABLE letter (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL,
    recipients  text[] NOT NULL,
    subject     text NOT NULL,
    body_text   text NOT NULL,
    body_html   text NOT NULL,
    tries       integer NOT NULL DEFAULT 0,
    next_try    timestamptz DEFAULT now(),
    problem     text
);
CREATE INDEX letter_due ON letter (next_try) WHERE next_try IS NOT NULL;

-- Access for an address that has no account yet, or has not been here since.
CREATE TABLE invitation (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    email       text NOT NULL,        -- in lower case
    invited_by  text NOT NULL,
    invited_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT invitation_once UNIQUE (email, package_id)
);
CREATE INDEX invitation_package ON invitation (package_id);

CREATE TABLE comment (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         text NOT NULL UNIQUE, -- what the protocol calls its id: 16 hex digits
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    author      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    contents    text NOT NULL
);
CREATE INDEX comment_package ON comment (package_id, id);

-- How often somebody did what is limited, in the window that runs.
CREATE TABLE allowance (
    subject     bytea PRIMARY KEY,    -- SHA-256 of what is limited and for whom
    used        integer NOT NULL,
    ends_at     timestamptz NOT NULL
);
CREATE INDEX allowance_ends ON allowance (ends_at);

-- The newest push; what is sorted by it need not look at the instances.
ALTER TABLE package ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

-- User metadata that search looks at: the objects of an instance, 32 bytes each, and their text, read once an object.
ALTER TABLE instance ADD COLUMN metadata bytea NOT NULL DEFAULT '';
CREATE TABLE metadata (
    owner_id    bigint NOT NULL,
    digest      bytea NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (owner_id, digest)
);

-- Words as they are, but for those that English search leaves out: what is matched as somebody types.
CREATE TEXT SEARCH DICTIONARY unstemmed (TEMPLATE = pg_catalog.simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION unstemmed (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION unstemmed ALTER MAPPING REPLACE pg_catalog.simple WITH unstemmed;

-- Where in a package a word is, for the rank: names has owner and name (weight A) and their pieces (B); nodes is read
-- through its index only, as words is. Search would have to wait for what an index put off, so they put nothing off.
ALTER TABLE package_search
    ADD COLUMN names tsvector NOT NULL DEFAULT '',
    ADD COLUMN nodes tsvector NOT NULL DEFAULT '';
ALTER INDEX package_search_words SET (fastupdate = off);

-- Whom something was done to: the account that was disabled, the user who was given access.
ALTER TABLE event ADD COLUMN subject text;

CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'Rows of the audit trail are only ever added.'; END $$;
CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only();
""",
    )
