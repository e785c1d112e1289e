"""The home page."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.catalog.templates import render
from quilt_registry.packages import listing
from quilt_registry.packages.access import Caller
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

MAX_RECENT_PACKAGES = 50


async def home(request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry]) -> Response[Any]:
    packages = await listing.list_readable(registry.db, caller, MAX_RECENT_PACKAGES)
    return render(request, "site/home.html", packages=packages)
