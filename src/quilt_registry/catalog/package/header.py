"""What all pages of a package share: the package and the version of the URL, and the head with its tabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.catalog import templates
from quilt_registry.catalog.announcements import sentence
from quilt_registry.catalog.commands import Subject
from quilt_registry.catalog.site.refusal import PageRefusal
from quilt_registry.catalog.urls import package_url
from quilt_registry.errors import NotFound
from quilt_registry.packages import access, invitations, resolve
from quilt_registry.packages.access import Caller
from quilt_registry.packages.instances import LATEST
from quilt_registry.packages.resolve import PackageView, Reference, ReferenceNotFound, VersionName
from quilt_registry.registry import Registry
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest, is_speculative

# The selectors of a version in a URL, the most exact one first.
SELECTORS = ("hash", "version", "tag")


class Header(Struct, frozen=True):
    """The shared part of a package's page. `names` are those of the version picker.

    `announcement` says what invitations that became access just now have opened.
    """

    view: PackageView
    names: list[VersionName]
    caller: Caller
    announcement: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The query that leads to the same version on the other pages."""
        reference = self.view.reference
        return {reference.kind: reference.value} if reference.kind else {}

    @property
    def visibility(self) -> str:
        """How far the package is shared: private, shared, team or public."""
        return access.visibility(self.caller, self.view.package, shared=self.view.readers > 0)

    @property
    def is_owner(self) -> bool:
        return self.caller.name == self.view.package.owner

    @property
    def may_write(self) -> bool:
        """Whether the reader may push and move tags."""
        return access.may_write(self.caller, self.view.package)

    def subject(self, path: Sequence[str] = ()) -> Subject:
        """Return a part of the shown version as commands name it: without a version if it is the latest."""
        package, reference, version = self.view.package, self.view.reference, self.view.version
        assert version is not None
        if reference.kind and reference != Reference("tag", LATEST):
            return Subject(package.owner, package.name, reference.kind, reference.value, tuple(path))
        if version.is_latest:
            return Subject(package.owner, package.name, path=tuple(path))
        if version.versions:
            return Subject(package.owner, package.name, "version", version.versions[-1], tuple(path))
        return Subject(package.owner, package.name, "hash", version.top_hash, tuple(path))

    def url(self, *segments: str, **query: str | int | None) -> str:
        """Return the path of another page of this version."""
        return package_url(self.view.package.owner, self.view.package.name, *segments, **self.query, **query)


def reference_of(request: AnyRequest) -> Reference:
    """Return the version that the URL selects."""
    for kind in SELECTORS:
        if value := request.query_params.get(kind, ""):
            return Reference(kind, value)  # type: ignore[arg-type]
    return Reference()


async def load(request: AnyRequest, caller: Caller, registry: Registry, owner: str, name: str) -> Header:
    """Return the header of a package's page. Raise NotFound, PageRefusal.

    A package that was shared by email since the sign-in is found, too: its invitation is claimed first.
    """
    reference, announcement = reference_of(request), ""
    try:
        view = await _resolve(registry, caller, owner, name, reference)
    except NotFound as error:
        if isinstance(error, PageRefusal) or is_speculative(request) or not caller.account:
            raise
        claimed = await invitations.claim(registry.db, caller.account)
        if not claimed:
            raise
        announcement = sentence(claimed)
        view = await _resolve(registry, caller, owner, name, reference)
    return Header(view, await resolve.list_names(registry.db, view.package), caller, announcement)


async def _resolve(registry: Registry, caller: Caller, owner: str, name: str, reference: Reference) -> PackageView:
    try:
        return await resolve.resolve(registry.db, caller, owner, name, reference)
    except ReferenceNotFound as error:
        names = await resolve.list_names(registry.db, error.view.package)
        header = Header(error.view, names, caller)
        status = 300 if error.candidates else 404
        values = {"header": header, "candidates": error.candidates, "message": error.message}
        raise PageRefusal(status, error.message, "package/no_version.html", values) from None


async def render(request: AnyRequest, template: str, header: Header, status: int = 200, **values: Any) -> Response[Any]:
    """Return a page of a package. Its template extends package/base.html and sets `tab`.

    Raise NotFound if the package was deleted while the page was read, because the rest of it would look empty.
    """
    await access.check_still_there(registry_of(request).db, header.caller, header.view.package)
    return templates.render(request, template, status, header=header, **values)
