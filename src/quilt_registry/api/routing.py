"""From the rows of a routes page to handlers."""

from __future__ import annotations

from litestar import HttpMethod, Router
from litestar.handlers import HTTPRouteHandler

from quilt_registry.api.dependencies import DEPENDENCIES, authorize, check_path
from quilt_registry.api.openapi import Route


def router(routes: list[Route]) -> Router:
    """Return the handlers of the rows."""
    return Router("/", route_handlers=[_handler(route) for route in routes], dependencies=DEPENDENCIES)


def _handler(route: Route) -> HTTPRouteHandler:
    """Return the handler of a row. GET answers HEAD too.

    A path that ends with a slash also works without it; the others do not work with one.
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
