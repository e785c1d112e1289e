"""JSON responses. The request bodies are beside their handlers, that of a push in manifests/pushed.py."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from quilt.manifest import Root
from quilt_registry.packages.history import LogEntry, TagEntry, VersionEntry
from quilt_registry.packages.invitations import Invitation
from quilt_registry.packages.profile import ProfilePackages

Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Seconds = Annotated[float, Meta(description="Unix time.")]


# ------------------------------------------------------------------------------------------------ sign-in


class SessionToken(Struct):
    """A token of a new session."""

    token: str


class TokenPair(Struct):
    """A new token under both names that released clients store. `expires_at` is whole Unix seconds."""

    refresh_token: str
    access_token: str
    expires_at: int


class CurrentUser(Struct):
    """The account of the caller. `is_staff` marks an admin."""

    current_user: str
    email: str
    is_active: bool
    is_staff: bool


class SignInCode(Struct):
    """A code that signs a client in."""

    code: str


# ------------------------------------------------------------------------------------------------ packages


class PushResult(Struct):
    """The package's page and its top hash."""

    package_url: str
    package_hash: Hex


class UploadUrl(Struct):
    """Presigned URLs of an object: HEAD tells whether it is stored, PUT uploads it."""

    head: str
    put: str


class UploadUrls(Struct):
    """The response to a dry run: an entry for every object of the tree."""

    upload_urls: dict[str, UploadUrl]


class Provenance(Struct, kw_only=True):
    """The users who first and last pushed an instance."""

    created_by: str
    created_at: Seconds
    updated_by: str
    updated_at: Seconds


class InstallResult(Provenance):
    """The whole tree, and the presigned URLs and sizes of the selected objects."""

    contents: Root
    urls: dict[str, str]
    sizes: dict[str, int]


class ObjectUrls(Struct):
    """Presigned URLs and sizes of objects. Objects that the caller may not read are left out."""

    urls: dict[str, str]
    sizes: dict[str, int]


class HashList(Struct):
    """Top hashes of a package's instances."""

    hashes: list[Hex]


class Preview(Provenance):
    """A summary of an instance. The rows of `preview` are [name, rows below or null]."""

    preview: list[Any]
    readme_url: str | None
    readme_preview: str | None
    is_public: bool
    is_team: bool
    total_size_uncompressed: int
    file_types: dict[str, int]
    log_count: int


class ProfileInfo(Struct):
    """The caller's packages. `plan` and `have_credit_card` are always null.

    If a page was requested, `next` is the `after` of the next page, null for the last page.
    """

    packages: ProfilePackages
    is_admin: bool
    plan: None = None
    have_credit_card: None = None
    next: str | UnsetType | None = UNSET


# ------------------------------------------------------------------------------------------------ history


class InstanceInfo(Provenance):
    """The top hash of an instance, and the users who pushed it."""

    hash: Hex


class TaggedInstance(InstanceInfo):
    """The instance of a tag. The flags tell whether `public` and `team` are in the access list."""

    is_public: bool
    is_team: bool


class TagList(Struct):
    """Tags of a package, by name."""

    tags: list[TagEntry]


class VersionList(Struct):
    """Versions of a package, in the order of PEP 440."""

    versions: list[VersionEntry]


class PackageLog(Struct):
    """Pushes of a package, oldest first."""

    logs: list[LogEntry]


# ------------------------------------------------------------------------------------------------ sharing


class AccessList(Struct):
    """Usernames, `team` and `public`."""

    users: list[str]


class InvitationList(Struct):
    """Open invitations."""

    invitations: list[Invitation]
