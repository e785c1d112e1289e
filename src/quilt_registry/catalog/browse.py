"""Home, and the page of a package."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.catalog.reading import AnyRequest, Reader, Registry
from quilt_registry.catalog.rendering import render
from quilt_registry.packages import access, listing
from quilt_registry.packages.instances import LATEST

RECENT = 50


async def home(request: AnyRequest, reader: Reader, parts: Registry) -> Response[Any]:
    packages = await listing.readable(parts.db, reader, RECENT)
    return render(request, "home.html", account=reader.account, packages=packages)


async def package(request: AnyRequest, reader: Reader, parts: Registry, owner: str, name: str) -> Response[Any]:
    """What `quilt push` prints the address of."""
    overview = await listing.overview(parts.db, reader, owner, name, LATEST, record=request.method == "GET")
    return render(
        request,
        "package.html",
        account=reader.account,
        package=overview.package,
        shown=overview,
        visibility=_visibility(reader, overview.package),
    )


def _visibility(reader: access.Caller, package: access.Package) -> str:
    if access.is_public(reader, package):
        return "public"
    return "team" if access.is_team(reader, package) else "private"
