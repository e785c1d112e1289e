"""The routes of our own API, `/api/v1`. README.md in this folder has the conventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import HttpMethod, Response, Router
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from quilt_registry.accounts.rights import Who
from quilt_registry.api.dependencies import authorize, check_path
from quilt_registry.api.messages import MAX_BODY_BYTES, STATUSES, ErrorResponse, refusal
from quilt_registry.api.openapi import SECURITY
from quilt_registry.api.v1 import audit, tokens
from quilt_registry.web.callers import DEPENDENCIES
from quilt_registry.web.packed_bodies import PackedBodies
from quilt_registry.web.requests import AnyRequest


def router() -> Router:
    """Return all routes."""
    return Router(
        "/api/v1",
        route_handlers=[
            _route("GET", "/audit", audit.list_events, who="admin"),
            _route("GET", "/tokens", tokens.list_tokens, who="member"),
            _route("POST", "/tokens", tokens.create_token, who="member", errors=(408, 409, 413)),
            _route("DELETE", "/tokens/{token_id:str}", tokens.revoke_token, who="member", errors=(404,)),
        ],
        middleware=[PackedBodies(MAX_BODY_BYTES)],
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={RecursionError: _refuse_nesting},
        dependencies=DEPENDENCIES,
        # Responses are for one caller and may hold secrets.
        response_headers=[ResponseHeader(name="Cache-Control", value="private, no-store")],
    )


def _refuse_nesting(request: AnyRequest, _: Exception) -> Response[bytes]:
    """Return the refusal of a body that is nested more deeply than the decoder can follow."""
    return refusal(request.scope["path"], 400, "The request body is nested too deeply.")


def _route(
    method: str, path: str, function: Callable[..., Any], *, who: Who, errors: tuple[int, ...] = ()
) -> HTTPRouteHandler:
    """Return the handler of a route. A GET route also handles HEAD. `errors`: statuses that not all calls have."""
    topic = function.__module__.rpartition(".")[2]
    statuses = sorted({400, 401, 403, 503, *errors})
    return HTTPRouteHandler(
        path,
        http_method=[HttpMethod.GET, HttpMethod.HEAD] if method == "GET" else HttpMethod(method),
        status_code=200,
        guards=[check_path, authorize],
        opt={"who": who, "changes": method != "GET"},
        tags=[topic],
        operation_id=lambda _, http_method, __: f"{topic}_{function.__name__}" + ("_head" * (http_method == "HEAD")),
        security=SECURITY[who],
        responses={
            status: ResponseSpec(ErrorResponse, description=STATUSES[status].description) for status in statuses
        },
    )(function)
