"""Litestar handlers for the rows of a routes page."""

from __future__ import annotations

from litestar import HttpMethod, Router
from litestar.handlers import HTTPRouteHandler

from quilt_registry.api.dependencies import authorize, check_path
from quilt_registry.api.openapi import Route
from quilt_registry.web.callers import DEPENDENCIES


def router(routes: list[Route]) -> Router:
    """Return a router with a handler for each route."""
    return Router("/", route_handlers=[_handler(route) for route in routes], dependencies=DEPENDENCIES)


def _handler(route: Route) -> HTTPRouteHandler:
    """Return the handler of a route. A GET route also handles HEAD.

    A path that ends with a slash also works without it; other paths do not work with a slash at the end.
    """
    return HTTPRouteHandler(
        route.path,
        http_method=[HttpMethod.GET, HttpMethod.HEAD] if route.method == "GET" else HttpMethod(route.method),
        status_code=200,
        guards=[check_path, authorize],
        opt={
            "who": route.who,
            "slash": route.path.endswith(("/", ":path}")),
            "changes": route.method != "GET" and not route.reads,
            "user_endpoint": route.path.startswith("/api/users/"),
        },
    )(route.function)
