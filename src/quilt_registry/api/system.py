"""The registry itself: health, readiness, metrics, the OpenAPI document."""

from __future__ import annotations

import hmac
from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.api.messages import json
from quilt_registry.api.openapi import Route
from quilt_registry.errors import NotFound, SignInNeeded
from quilt_registry.monitoring import metrics, readiness
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

TEXT = "text/plain"


def routes() -> list[Route]:
    """Return every call."""
    return [
        Route("GET", "/healthcheck", healthcheck, who="anybody", returns=TEXT),
        Route("GET", "/readyz", readyz, who="anybody", returns=Ready),
        Route("GET", "/metrics", show_metrics, who="anybody", returns=TEXT, errors=(401, 404)),
        Route("GET", "/robots.txt", robots, who="anybody", returns=TEXT),
        Route("GET", "/api/openapi.json", openapi, who="visitor", returns=dict[str, Any]),
    ]


class Ready(Struct):
    """Of each part `ok`, or what is wrong with it."""

    database: str
    store: str
    migrations: str


async def openapi(request: AnyRequest) -> Response[Any]:
    """This document."""
    return json(request.app.state.openapi)


async def healthcheck() -> Response[str]:
    """Whether this process answers. An outage of database or store must not make a balancer drop it: asks neither."""
    return Response("ok", media_type="text/plain")


async def readyz(registry: Injected[Registry]) -> Response[Any]:
    """Whether the registry can do its work: database, store, and the database's schema."""
    state = await registry.readiness.state()
    if all(says == readiness.OK for says in state.values()):
        return json(state)
    return Response({"message": "The registry is not ready.", **state}, status_code=503, media_type="application/json")


async def show_metrics(request: AnyRequest, registry: Injected[Registry]) -> Response[bytes]:
    """What is counted, in the text format of Prometheus.

    The token is that of the setting METRICS_TOKEN, nobody's sign-in; without the setting there is nothing here.
    """
    token = registry.settings.metrics_token
    if token is None:
        raise NotFound("There is nothing at this address.")
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode(), f"Bearer {token.get_secret_value()}".encode()):
        raise SignInNeeded("Metrics need the header Authorization: Bearer with the token that METRICS_TOKEN sets.")
    return Response(await metrics.render(registry.db), media_type="text/plain; version=0.0.4")


async def robots() -> Response[str]:
    """Nothing here is for search engines."""
    return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")
