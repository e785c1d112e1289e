"""Email links, personal access tokens, the outbox, invitations, comments, rate limits and the append-only audit."""

from quilt_registry.migrations.writing import change

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add tables and columns. All rows of token are rewritten for their id, which takes 0.5 s for 100,000 sessions."""
    change(
        "account, token, package, instance, package_search, event",
        """
-- The user signed up but has not opened the link in the email. Such an account is not active.
ALTER TABLE account ADD COLUMN awaits_activation boolean NOT NULL DEFAULT false;

-- A token with a name is a personal access token; the others are sessions.
SET LOCAL statement_timeout = '10s';
ALTER TABLE token
    ADD COLUMN id         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN name       text,
    ADD COLUMN read_only  boolean NOT NULL DEFAULT false,
    ADD COLUMN last_used  timestamptz,
    ADD CONSTRAINT token_name UNIQUE (account_id, name);

-- A link in an email that activates an account or resets a password. Only its SHA-256 is stored.
CREATE TABLE link (
    digest      bytea PRIMARY KEY,
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    purpose     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX link_account ON link (account_id, purpose);

-- The outbox of emails. Sent emails are deleted; undeliverable ones stay, without a next try.
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

-- Access for an email address without an account, or whose user has not signed in since.
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
    key         text NOT NULL UNIQUE, -- its id in the protocol: 16 hex digits
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    author      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    contents    text NOT NULL
);
CREATE INDEX comment_package ON comment (package_id, id);

-- Rate-limit counters of the current windows.
CREATE TABLE allowance (
    subject     bytea PRIMARY KEY,    -- SHA-256 of the action and the user or network
    used        integer NOT NULL,
    ends_at     timestamptz NOT NULL
);
CREATE INDEX allowance_ends ON allowance (ends_at);

-- The time of the newest push, so that sorting by it does not need the instances.
ALTER TABLE package ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

-- User metadata for search: the objects of an instance, 32 bytes each, and their text, read once for each object.
ALTER TABLE instance ADD COLUMN metadata bytea NOT NULL DEFAULT '';
CREATE TABLE metadata (
    owner_id    bigint NOT NULL,
    digest      bytea NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (owner_id, digest)
);

-- Unstemmed words without English stop words, for search as you type.
CREATE TEXT SEARCH DICTIONARY unstemmed (TEMPLATE = pg_catalog.simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION unstemmed (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION unstemmed ALTER MAPPING REPLACE pg_catalog.simple WITH unstemmed;

-- Where in a package a word occurs, for the rank: names has owner and name (weight A) and their parts (B). nodes and
-- words are read only through their indexes. Without fastupdate, because search would wait for pending index entries.
ALTER TABLE package_search
    ADD COLUMN names tsvector NOT NULL DEFAULT '',
    ADD COLUMN nodes tsvector NOT NULL DEFAULT '';
ALTER INDEX package_search_words SET (fastupdate = off);

-- The user whom an event affects, for example whose account was disabled or who got access.
ALTER TABLE event ADD COLUMN subject text;

CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'Rows of the audit trail are only ever added.'; END $$;
CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only();
""",
    )
