"""The OpenAPI 3.1 document of all calls.

The frozen protocol is described from its routes page, because its handlers read their bodies themselves; `/api/v1` is
described by Litestar. `document` merges both.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from msgspec import Struct

from quilt_registry import __version__
from quilt_registry.accounts.rights import Who
from quilt_registry.api.messages import STATUSES, Empty, Refusal

JSON = "application/json"
SECURITY: dict[Who, list[dict[str, list[str]]] | None] = {
    "anybody": None,
    "visitor": None,
    "caller": [{}, {"token": []}],
    "member": [{"token": []}],
    "admin": [{"token": []}],
}
PATH_PARAMETERS = {
    "owner": "username of the package's owner",
    "name": "the package's name",
    "top_hash": "64 lower-case hex digits that name an instance of the package",
    "path": "names of nodes, separated by slashes",
    "tag": "a tag, such as latest",
    "version": "a PEP 440 version",
    "user": "a username, `team`, `public`, or an email address to invite",
    "link": "the secret from the email",
    "key": "the object's key, from a presigned URL",
    "event": "push, install, preview or delete",
    "comment_id": "16 hex digits",
    "token_id": "the token's number, from the list",
}


class Query(Struct, frozen=True):
    """A parameter in the query."""

    name: str
    type: Any
    description: str


class Route(Struct, frozen=True):
    """A row of a routes page. `who` may call it: accounts/rights.py. `reads`: it changes nothing, whatever its method.

    `body` is the type of a JSON body, a dict of form fields, or a media type; `returns` the type of the JSON answer, a
    tuple of alternative types, or a media type; `errors` has the statuses that do not follow from `who` and the body.
    """

    method: str
    path: str
    function: Callable[..., Any]
    who: Who
    reads: bool = False
    body: Any = None
    returns: Any = Empty
    status: int = 200
    query: tuple[Query, ...] = ()
    errors: tuple[int, ...] = ()


def document(routes: list[Route], plain: Router, registry_url: str) -> dict[str, Any]:
    """Return the document of the rows of routes pages and of a router of plain Litestar handlers."""
    schemas = _Schemas([Refusal, *_types(routes)])
    generated = _generated(plain)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quilt Registry",
            "version": __version__,
            "summary": "The JSON calls of the registry.",
        },
        "servers": [{"url": registry_url}],
        "paths": {**_paths(routes, schemas), **generated["paths"]},
        "components": {
            "schemas": {**generated["components"]["schemas"], **schemas.components},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


# ------------------------------------------------------------------------------------------------ by Litestar


def _generated(plain: Router) -> dict[str, Any]:
    """Return the paths and schemas of plain handlers, in the form that those of the rows have."""
    nothing = Provide(lambda: None, sync_to_thread=False)
    app = Litestar(
        [plain],
        dependencies={"registry": nothing},
        openapi_config=OpenAPIConfig("Quilt Registry", __version__, use_handler_docstrings=True),
        logging_config=None,
    )
    found: dict[str, Any] = app.openapi_schema.to_schema()
    for item in found["paths"].values():
        item.pop("head", None)
        item["parameters"] = []
        for operation in item.values():
            if isinstance(operation, dict):
                _adjust(operation)
    return found


def _adjust(operation: dict[str, Any]) -> None:
    summary, _, more = operation.pop("description", "").partition("\n\n")
    operation |= {"summary": " ".join(summary.split()), "description": more}
    for parameter in operation.setdefault("parameters", []):
        if parameter["in"] == "path":
            parameter["schema"] |= {"minLength": 1}
            parameter["description"] = PATH_PARAMETERS[parameter["name"]]


# ------------------------------------------------------------------------------------------------ from routes pages


def _paths(routes: list[Route], schemas: _Schemas) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        names = re.findall(r"{(\w+):\w+}", route.path)
        path = re.sub(r":\w+}", "}", route.path)
        item = paths.setdefault(path, {"parameters": [_path_parameter(name) for name in names]})
        item[route.method.lower()] = _operation(route, schemas)
    return paths


class _Schemas:
    """JSON schemas of types; those of named types are components."""

    def __init__(self, types: list[Any]):
        known, self.components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        self._known = {repr(type): schema for type, schema in zip(types, known, strict=True)}

    def of(self, type: Any) -> dict[str, Any]:
        return self._known[repr(type)]


def _types(routes: list[Route]) -> list[Any]:
    found = []
    for route in routes:
        found += [query.type for query in route.query]
        found += [] if route.body is None or isinstance(route.body, dict | str) else [route.body]
        found += _alternatives(route.returns)
    return found


def _alternatives(returns: Any) -> list[Any]:
    """Return the types of a JSON answer; none for an answer of another media type."""
    return [] if isinstance(returns, str) else list(returns) if isinstance(returns, tuple) else [returns]


def _path_parameter(name: str) -> dict[str, Any]:
    parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {**parameter, "description": PATH_PARAMETERS[name]}


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    topic = route.function.__module__.rpartition(".")[2]
    summary, _, more = (inspect.getdoc(route.function) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": f"{topic}_{route.function.__name__}",
        "tags": [topic],
        "summary": " ".join(summary.split()),
        "description": more,
        "parameters": [
            {"name": each.name, "in": "query", "description": each.description, "schema": schemas.of(each.type)}
            for each in route.query
        ],
        "responses": {str(route.status): _answer(route, schemas), **_errors(route, schemas)},
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _body(route.body, schemas)}
    if security := SECURITY[route.who]:
        operation["security"] = security
    return operation


def _answer(route: Route, schemas: _Schemas) -> dict[str, Any]:
    if route.status >= 300:
        return {"description": "A redirect.", "headers": {"Location": {"schema": {"type": "string"}}}}
    if isinstance(route.returns, str):
        return {"description": "Success.", "content": {route.returns: {"schema": {"type": "string"}}}}
    types = [schemas.of(type) for type in _alternatives(route.returns)]
    schema = types[0] if len(types) == 1 else {"anyOf": types}
    return {"description": "Success.", "content": {JSON: {"schema": schema}}}


def _body(body: Any, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(body, dict):
        fields = {name: {"type": "string", "description": description} for name, description in body.items()}
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        return {"application/x-www-form-urlencoded": {"schema": schema}}
    if isinstance(body, str):
        return {body: {"schema": {"type": "string", "format": "binary"}}}
    return {JSON: {"schema": schemas.of(body)}}


def _errors(route: Route, schemas: _Schemas) -> dict[str, Any]:
    statuses = {*route.errors, 503}
    if "{" in route.path:
        statuses |= {400, 404}
    if route.body is not None or route.query:
        statuses |= {400}
    if route.body is not None:
        statuses |= {413}
    if route.who != "anybody":
        statuses |= {401, 403}
    content = {JSON: {"schema": schemas.of(Refusal)}}
    return {
        str(status): {"description": STATUSES[status].description, "content": content} for status in sorted(statuses)
    }
