"""What calls answer, as JSON. What they take stands beside each handler."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from quilt_registry.accounts.tokens import TokenInfo as OwnToken
from quilt_registry.packages.history import LogEntry, TagEntry, VersionEntry
from quilt_registry.packages.invitations import Invitation
from quilt_registry.packages.listing import PackageSummary
from quilt_registry.packages.profile import Profile as Packages

# The tree, its rules and its hash are in quilt/manifest.py; here is only that it is an object.
Contents = Annotated[dict[str, Any], Meta(description="A tree: ROOT with GROUP, TABLE and FILE nodes below it.")]
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Seconds = Annotated[float, Meta(description="Unix time.")]


# ------------------------------------------------------------------------------------------------ signing in


class Token(Struct):
    token: str


class Exchanged(Struct):
    """A token under both names that clients keep it by; `expires_at` is whole Unix seconds."""

    refresh_token: str
    access_token: str
    expires_at: int


class Me(Struct):
    current_user: str
    email: str
    is_active: bool
    is_staff: bool


class Code(Struct):
    code: str


# ------------------------------------------------------------------------------------------------ packages


class PushRequest(Struct):
    """A package, or for the push of a part a node, and the sizes of its objects."""

    contents: Contents
    description: str
    sizes: dict[str, int]
    dry_run: bool = False
    is_public: bool = False
    is_team: bool = False


class Pushed(Struct):
    package_url: str
    package_hash: Hex


class UploadUrl(Struct):
    """HEAD tells whether the object is there; PUT sends it."""

    head: str
    put: str


class ToUpload(Struct):
    """The answer to a dry run: an entry for every object of the tree."""

    upload_urls: dict[str, UploadUrl]


class Stamps(Struct, kw_only=True):
    """Who made an instance and who pushed it last."""

    created_by: str
    created_at: Seconds
    updated_by: str
    updated_at: Seconds


class Installed(Stamps):
    """The whole tree, and where to get the objects that were asked for."""

    contents: Contents
    urls: dict[str, str]
    sizes: dict[str, int]


class ObjectUrls(Struct):
    urls: dict[str, str]
    sizes: dict[str, int]


class OfOwner(Struct):
    packages: list[PackageSummary]


class Hashes(Struct):
    hashes: list[Hex]


class Preview(Stamps):
    """What a page about an instance shows. Rows of `preview` are [name, rows below or null]."""

    preview: list[Any]
    readme_url: str | None
    readme_preview: str | None
    is_public: bool
    is_team: bool
    total_size_uncompressed: int
    file_types: dict[str, int]
    log_count: int


class Profile(Struct):
    """One's own packages and those shared with one by name. `plan` and `have_credit_card` are always null."""

    packages: Packages
    is_admin: bool
    plan: None = None
    have_credit_card: None = None


# ------------------------------------------------------------------------------------------------ history


class Instance(Stamps):
    hash: Hex


class Tagged(Instance):
    is_public: bool
    is_team: bool


class Tags(Struct):
    tags: list[TagEntry]


class Versions(Struct):
    versions: list[VersionEntry]


class Log(Struct):
    logs: list[LogEntry]


# ------------------------------------------------------------------------------------------------ sharing, tokens


class Access(Struct):
    users: list[str]


class Invitations(Struct):
    invitations: list[Invitation]


class Tokens(Struct):
    tokens: list[OwnToken]
