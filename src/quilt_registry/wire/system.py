"""Odds and ends (protocol §17)."""

from __future__ import annotations

import hmac
from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry import metrics, readiness
from quilt_registry.errors import Invalid, NotFound, SignInNeeded
from quilt_registry.wire.calling import AnyCaller, AnyRequest, Registry, Visitor
from quilt_registry.wire.messages import json, read


class Ready(Struct):
    """Of each part `ok`, or what is wrong with it."""

    database: str
    store: str
    migrations: str


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


async def readyz(parts: Registry) -> Response[Any]:
    """Whether the registry can do its work: database, store, and the database's schema."""
    state = await parts.readiness.state()
    if all(says == readiness.OK for says in state.values()):
        return json(state)
    return Response({"message": "The registry is not ready.", **state}, status_code=503, media_type="application/json")


async def show_metrics(request: AnyRequest, parts: Registry) -> Response[bytes]:
    """What is counted, in the text format of Prometheus.

    The token is that of the setting METRICS_TOKEN, nobody's sign-in; without the setting there is nothing here.
    """
    token = parts.settings.metrics_token
    if token is None:
        raise NotFound("There is nothing at this address.")
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode(), f"Bearer {token.get_secret_value()}".encode()):
        raise SignInNeeded("Metrics need the header Authorization: Bearer with the token that METRICS_TOKEN sets.")
    return Response(await metrics.text(parts.db), media_type="text/plain; version=0.0.4")


async def robots() -> Response[str]:
    """Nothing here is for search engines."""
    return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")
