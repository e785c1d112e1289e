"""Odds and ends (protocol §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.errors import Invalid
from quilt_registry.wire.calling import AnyCaller, AnyRequest, Visitor
from quilt_registry.wire.messages import json, read


async def client_log(request: AnyRequest, caller: AnyCaller) -> Response[Any]:
    """Old clients report each build here. It is read and dropped."""
    entries = await read(request, list[dict[str, Any]])
    if any(entry.get("type") != "build" for entry in entries):
        raise Invalid("Every entry needs the type 'build'.")
    return json({})


async def openapi(request: AnyRequest, visitor: Visitor) -> Response[Any]:
    """This document."""
    return json(request.app.state.openapi)


async def healthcheck() -> Response[str]:
    """Whether this process answers. An outage of database or store must not make a balancer drop it: asks neither."""
    return Response("ok", media_type="text/plain")


async def robots() -> Response[str]:
    """Nothing here is for search engines."""
    return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")
