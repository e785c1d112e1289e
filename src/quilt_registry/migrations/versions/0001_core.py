"""The registry core: accounts, packages, manifests, objects, history, events."""

from quilt_registry.migrations.writing import run

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Digests are 32 bytes, never hex text. Nothing has a row per version and object.

    The tables written in bulk by a push (package_page, package_object, object) have no foreign keys: a check per row
    would double the cost of a push, and each writer holds the package's row while it writes.
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

-- A sign-in. What the client holds is random; here is only its SHA-256.
CREATE TABLE token (
    digest      bytea PRIMARY KEY,
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX token_account ON token (account_id);
CREATE INDEX token_expires ON token (expires_at);

-- What a person carries from the page /code to a client: good once, for ten minutes.
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

-- Who may read: user names, and the pseudo-users team and public.
CREATE TABLE access (
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    grantee     text NOT NULL,
    CONSTRAINT access_once PRIMARY KEY (package_id, grantee)
);
CREATE INDEX access_grantee ON access (grantee, package_id);

-- A piece of a manifest (packages/pages.py), named by the SHA-256 of its msgpack; the body is compressed already.
CREATE TABLE page (
    name        bytea PRIMARY KEY,
    entries     integer NOT NULL,
    body        bytea NOT NULL
);
ALTER TABLE page ALTER COLUMN body SET STORAGE EXTERNAL;

-- The pages of a package's instances. Whoever pushes one of these names nothing that the package does not have.
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
    size        bigint NOT NULL,      -- bytes of its distinct objects, metadata objects included
    preview     bytea NOT NULL,       -- JSON, as package_preview sends it
    file_types  bytea NOT NULL,       -- JSON, likewise
    readme      bytea,                -- object of the FILE named README at the top
    names       text NOT NULL,        -- distinct names of its nodes, as many as search looks at
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT instance_hash UNIQUE (package_id, top_hash)
);

-- An object that counts: some instance of the owner's packages names it.
CREATE TABLE object (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id    bigint NOT NULL,
    digest      bytea NOT NULL,
    size        bigint NOT NULL,
    state       smallint NOT NULL,    -- objects.py: PRESENT, VERIFIED, DAMAGED
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT object_digest UNIQUE (digest, owner_id)
);
CREATE INDEX object_unverified ON object (created_at) WHERE state = 0;
CREATE INDEX object_damaged ON object (owner_id) WHERE state = 2;

-- Which package names which object: what a reader of the package may have.
CREATE TABLE package_object (
    package_id  bigint NOT NULL,
    object_id   bigint NOT NULL,
    PRIMARY KEY (object_id, package_id)
);
CREATE INDEX package_object_package ON package_object (package_id);

-- The beginning of a README, read once an object.
CREATE TABLE readme (
    owner_id    bigint NOT NULL,
    digest      bytea NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (owner_id, digest)
);

-- What search looks at, of the instance that the tag latest points at. Bounded: a tsvector ends at 1 MB.
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
    typed       text NOT NULL,        -- as it was typed
    instance_id bigint NOT NULL REFERENCES instance ON DELETE CASCADE,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT version_once PRIMARY KEY (package_id, name)
);
CREATE INDEX version_instance ON version (instance_id);

-- The log of a package: one row a push, repeats included.
CREATE TABLE push (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    package_id  bigint NOT NULL REFERENCES package ON DELETE CASCADE,
    instance_id bigint NOT NULL REFERENCES instance ON DELETE CASCADE,
    author      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX push_package ON push (package_id, id);
CREATE INDEX push_instance ON push (instance_id);

-- The audit trail. It outlives packages, so it names them; package_id tells a package from a later one of that name.
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
