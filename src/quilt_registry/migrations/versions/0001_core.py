"""Accounts, packages, manifests, objects, history and the audit trail."""

from quilt_registry.migrations.writing import run

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables. Digests are 32 bytes, never hex text. No table has a row for each version and object.

    The tables that a push writes in bulk (package_page, package_object, object) have no foreign keys, because a check
    for each row would double the time of a push. Each writer locks the package's row while it writes.
    """
    run("""
CREATE TABLE account (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL CONSTRAINT account_name UNIQUE,
    email       text NOT NULL,
    password    text,
    is_admin    boolean NOT NULL DEFAULT false,
    is_active   boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    last_login  timestamptz
);
CREATE UNIQUE INDEX account_email ON account (lower(email));

-- A session. The client has a random token; only its SHA-256 is stored.
CREATE TABLE token (
    digest      bytea PRIMARY KEY,
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX token_account ON token (account_id);
CREATE INDEX token_expires ON token (expires_at);

-- A code that a user copies from the page /code to a client. It works once, within ten minutes.
CREATE TABLE code (
    digest      bytea PRIMARY KEY,
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX code_account ON code (account_id);

CREATE TABLE package (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id    bigint NOT NULL REFERENCES account,
    owner       text NOT NULL,  -- account.name, which never changes
    name        text NOT NULL,
    pushes      bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX package_name ON package (owner_id, lower(name));
CREATE UNIQUE INDEX package_exact_name ON package (owner, name);

-- Users who may read a package, and the pseudo-users team and public.
CREATE TABLE access (
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    grantee     text NOT NULL,
    CONSTRAINT access_once PRIMARY KEY (package_id, grantee)
);
CREATE INDEX access_grantee ON access (grantee, package_id);

-- A page of a manifest (manifests/pages.py). Its name is the SHA-256 of its msgpack, its body is compressed.
CREATE TABLE page (
    name        bytea PRIMARY KEY,
    entries     integer NOT NULL,
    body        bytea NOT NULL
);
ALTER TABLE page ALTER COLUMN body SET STORAGE EXTERNAL;

-- The pages of a package's instances. A push with one of them adds no objects to the package.
CREATE TABLE package_page (
    package_id  bigint NOT NULL,
    page        bytea NOT NULL,
    PRIMARY KEY (package_id, page)
);

CREATE TABLE instance (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    top_hash    bytea NOT NULL,
    pages       bytea NOT NULL,       -- names of its pages in order, 32 bytes each
    entries     integer NOT NULL,
    size        bigint NOT NULL,      -- bytes of its distinct objects, including metadata objects
    preview     bytea NOT NULL,       -- JSON, as package_preview sends it
    file_types  bytea NOT NULL,       -- JSON, likewise
    readme      bytea,                -- object of the FILE named README at the top
    names       text NOT NULL,        -- distinct names of its nodes, up to the limit of search
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT instance_hash UNIQUE (package_id, top_hash)
);

-- An object that an instance of one of the owner's packages references.
CREATE TABLE object (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id    bigint NOT NULL,
    digest      bytea NOT NULL,
    size        bigint NOT NULL,
    state       smallint NOT NULL,    -- ObjectState in storage/objects.py
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT object_digest UNIQUE (digest, owner_id)
);
CREATE INDEX object_unverified ON object (created_at) WHERE state = 0;
CREATE INDEX object_damaged ON object (owner_id) WHERE state = 2;

-- The objects that a package references. Users who may read the package may read them.
CREATE TABLE package_object (
    package_id  bigint NOT NULL,
    object_id   bigint NOT NULL,
    PRIMARY KEY (object_id, package_id)
);
CREATE INDEX package_object_package ON package_object (package_id);

-- The beginning of a README, read once for each object.
CREATE TABLE readme (
    owner_id    bigint NOT NULL,
    digest      bytea NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (owner_id, digest)
);

-- Search vectors of the instance with the tag latest. Bounded, because a tsvector is limited to 1 MB.
CREATE TABLE package_search (
    package_id  bigint PRIMARY KEY REFERENCES package ON DELETE CASCADE,
    words       tsvector NOT NULL
);
CREATE INDEX package_search_words ON package_search USING gin (words);

CREATE TABLE tag (
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    name        text NOT NULL,
    instance_id bigint NOT NULL REFERENCES instance ON DELETE CASCADE,
    PRIMARY KEY (package_id, name)
);
CREATE INDEX tag_instance ON tag (instance_id);

CREATE TABLE version (
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    name        text NOT NULL,        -- normalised by PEP 440
    typed       text NOT NULL,        -- as the user typed it
    instance_id bigint NOT NULL REFERENCES instance ON DELETE CASCADE,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT version_once PRIMARY KEY (package_id, name)
);
CREATE INDEX version_instance ON version (instance_id);

-- The log of a package: one row for each push, including repeated ones.
CREATE TABLE push (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    instance_id bigint NOT NULL REFERENCES instance ON DELETE CASCADE,
    author      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX push_package ON push (package_id, id);
CREATE INDEX push_instance ON push (instance_id);

-- The audit trail. It outlives packages, so it has their names. package_id distinguishes packages of the same name.
CREATE TABLE event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL,
    account     text,
    owner       text,
    package     text,
    package_id  bigint,
    top_hash    bytea,
    extra       jsonb
);
CREATE INDEX event_account ON event (account, id);
CREATE INDEX event_package ON event (owner, package, id);
CREATE INDEX event_package_id ON event (package_id, kind, created_at);
""")
