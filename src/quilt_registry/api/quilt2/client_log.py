"""Build reports of released clients (protocol §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.api.messages import json, read
from quilt_registry.errors import Invalid
from quilt_registry.web.requests import AnyRequest


async def client_log(request: AnyRequest) -> Response[Any]:
    """Read a build report, which released clients send after each build, and drop it."""
    entries = await read(request, list[dict[str, Any]])
    if any(entry.get("type") != "build" for entry in entries):
        raise Invalid("Every entry needs the type 'build'.")
    return json({})
