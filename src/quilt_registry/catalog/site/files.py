"""Files at fixed paths: the logo, and the service worker that browsers ask for."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Response

from quilt_registry.catalog.static_files import DIRECTORY, MEDIA_TYPES
from quilt_registry.errors import NotFound
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected

_WORKER = (DIRECTORY / "sw.js").read_bytes()


async def logo(registry: Injected[Registry]) -> Response[Any]:
    """Return the team's logo. An SVG that is opened by itself can load and run nothing."""
    path = registry.settings.team_logo
    try:
        data = await asyncio.to_thread(path.read_bytes) if path else b""
    except OSError:  # it was there when the registry started
        data = b""
    if not path or not data:
        raise NotFound("There is nothing at this URL.")
    headers = {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "public, max-age=3600",
    }
    return Response(data, media_type=MEDIA_TYPES[path.suffix.lower()], headers=headers)


async def worker() -> Response[Any]:
    """Return a service worker that removes itself, for browsers with the worker of the original catalog."""
    return Response(_WORKER, media_type=MEDIA_TYPES[".js"], headers={"Cache-Control": "no-cache"})
