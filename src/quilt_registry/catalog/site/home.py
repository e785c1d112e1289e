"""The home page: the packages that the reader pushed last, and those that changed last."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.catalog.site import start
from quilt_registry.catalog.templates import render
from quilt_registry.errors import Unavailable
from quilt_registry.packages import listing, samples
from quilt_registry.packages.access import Caller, Member
from quilt_registry.packages.listing import Totals
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

MAX_RECENT_PACKAGES = 20
MAX_PUSHED_PACKAGES = 5


async def home(request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry]) -> Response[Any]:
    recent = await listing.list_rows(registry.db, caller, limit=MAX_RECENT_PACKAGES)
    if not recent and await listing.has_packages(registry.db):
        return render(request, "site/nothing_shared.html", **start.values(request))
    if all(row.name in samples.NAMES for row in recent):
        return await start.welcome(request, caller, registry, recent)
    pushed = (
        await listing.list_pushed_rows(registry.db, caller, MAX_PUSHED_PACKAGES) if isinstance(caller, Member) else []
    )
    return render(
        request,
        "site/home.html",
        recent=recent,
        pushed=pushed,
        totals=await _totals(caller, registry),
        **start.values(request),
    )


async def _totals(caller: Caller, registry: Registry) -> Totals | None:
    """Return the numbers at the top of the page. The page is shown without them if they take too long."""
    try:
        return await listing.totals(registry.db, caller)
    except Unavailable:
        return None
