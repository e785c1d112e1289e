"""The overview of a package."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect

from quilt_registry.catalog.package import header
from quilt_registry.catalog.urls import package_url
from quilt_registry.errors import SignInNeeded
from quilt_registry.packages import invitations, listing
from quilt_registry.packages.access import Caller
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative


async def overview(
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
        return Redirect(package_url(owner, name), status_code=302)  # without the secret
    head = await header.load(request, caller, registry, owner, name)
    summary = None
    if head.view.version:
        instance = head.view.version.instance
        summary = await listing.summarize(registry.db, caller, head.view.package, instance, record=record)
    return header.render(request, "package/overview.html", head, summary=summary)
