"""The page of a package."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.catalog.templates import render
from quilt_registry.packages import access, listing
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import LATEST
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


async def package(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    record: Injected[bool],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show a package. `quilt push` prints the URL of this page."""
    overview = await listing.overview(registry.db, caller, owner, name, LATEST, record=record)
    return render(
        request,
        "package/overview.html",
        account=caller.account,
        package=overview.package,
        overview=overview,
        visibility=_visibility(caller, overview.package),
    )


def _visibility(caller: Caller, package: Package) -> str:
    if access.is_public(caller, package):
        return "public"
    return "team" if access.is_team(caller, package) else "private"
