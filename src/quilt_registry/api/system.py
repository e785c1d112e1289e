"""Calls about the registry itself: health, readiness, metrics, the OpenAPI document."""

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


class ReadinessReport(Struct):
    """The state of each part: `ok`, or what is wrong with it."""

    database: str
    store: str
    migrations: str


async def healthcheck() -> Response[str]:
    """Return `ok` if this process responds.

    The database and the object store are not checked, because load balancers must not drop a process for their outage.
    """
    return Response("ok", media_type="text/plain")


async def readyz(registry: Injected[Registry]) -> Response[Any]:
    """Return whether the database, its schema and the object store are ready."""
    state = await registry.readiness.state()
    if all(each == readiness.OK for each in state.values()):
        return json(state)
    return Response({"message": "The registry is not ready.", **state}, status_code=503, media_type="application/json")


async def show_metrics(request: AnyRequest, registry: Injected[Registry]) -> Response[bytes]:
    """Return the metrics in the text format of Prometheus.

    The token is the value of the setting METRICS_TOKEN, not that of a user. Without the setting, this call is 404.
    """
    token = registry.settings.metrics_token
    if token is None:
        raise NotFound("There is nothing at this URL.")
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.encode(), token.get_secret_value().encode()):
        raise SignInNeeded(
            "Metrics require the header Authorization: Bearer TOKEN, with the value of the setting METRICS_TOKEN."
        )
    return Response(await metrics.render(registry.db), media_type="text/plain; version=0.0.4")


async def robots(registry: Injected[Registry]) -> Response[str]:
    """Return rules that keep search engines out, unless the registry allows anonymous access."""
    path = "/search" if registry.policy.anonymous else "/"
    return Response(f"User-agent: *\nDisallow: {path}\n", media_type="text/plain")


async def openapi(request: AnyRequest) -> Response[Any]:
    """Return this OpenAPI document."""
    return json(request.app.state.openapi)


ROUTES = [
    Route("GET", "/healthcheck", healthcheck, who="anybody", returns=TEXT),
    Route("GET", "/readyz", readyz, who="anybody", returns=ReadinessReport),
    Route("GET", "/metrics", show_metrics, who="anybody", returns=TEXT, errors=(401, 404)),
    Route("GET", "/robots.txt", robots, who="anybody", returns=TEXT),
    Route("GET", "/api/openapi.json", openapi, who="visitor", returns=dict[str, Any]),
]
