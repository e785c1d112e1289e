"""The page of a package."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect

from quilt_registry.catalog.templates import render
from quilt_registry.errors import NotFound, SignInNeeded
from quilt_registry.packages import access, invitations, listing
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import LATEST
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative


async def package(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    record: Injected[bool],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show a package. `quilt push` prints the URL of this page, and an invitation links to it, with a secret."""
    if invitation := request.query_params.get("invitation"):
        if caller.account is None:
            raise SignInNeeded("Sign in to accept the invitation.")
        if not is_speculative(request):
            await invitations.accept(registry.db, caller.account, invitation)
        return Redirect(url(owner, name), status_code=302)  # without the secret
    try:
        overview = await listing.overview(registry.db, caller, owner, name, LATEST, record=record)
    except NotFound:  # unless the package was shared with the reader since the sign-in
        if is_speculative(request) or not (caller.account and await invitations.claim(registry.db, caller.account)):
            raise
        overview = await listing.overview(registry.db, caller, owner, name, LATEST, record=record)
    return render(
        request,
        "package/overview.html",
        account=caller.account,
        package=overview.package,
        overview=overview,
        visibility=_visibility(caller, overview.package),
    )


def url(owner: str, name: str) -> str:
    """Return the path of a package's page."""
    return f"/package/{quote(owner, safe='')}/{quote(name, safe='')}"


def _visibility(caller: Caller, package: Package) -> str:
    if access.is_public(caller, package):
        return "public"
    return "team" if access.is_team(caller, package) else "private"
