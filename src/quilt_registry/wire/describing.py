"""The calls as an OpenAPI 3.1 document, from the route table: what each takes, answers and refuses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Set
from typing import Any

import msgspec
from msgspec import Struct

from quilt_registry import __version__
from quilt_registry.wire.shapes import Nothing, Refused

JSON = "application/json"
PARAMETERS = {
    "owner": "user name of the package's owner",
    "name": "the package's name",
    "top_hash": "64 lower-case hex digits that name an instance of the package",
    "path": "names of nodes, separated by slashes",
    "tag": "a tag, such as latest",
    "version": "a version by the rules of PEP 440",
    "user": "a user name, `team`, `public`, or a mail address to invite",
    "link": "what the letter carried",
    "key": "where the object lies, from a signed URL",
    "token_id": "the token's number, from the list",
    "event": "push, install, preview or delete",
    "comment_id": "16 hex digits",
}
REASONS = {
    400: "What was sent breaks a rule.",
    401: "Not signed in, or with a token that is not good (any more).",
    403: "Known, but not allowed.",
    404: "Does not exist, or may not be seen.",
    409: "Somebody was first.",
    413: "Larger than this call takes.",
    416: "A range beyond the end of the object.",
    429: "More often than is allowed; `Retry-After` tells how many seconds to wait.",
    501: "Switched off on this registry.",
    503: "Database or store do not answer. The same request may work in a moment.",
    507: "No room left for objects.",
}


class Query(Struct, frozen=True):
    """A parameter in the query."""

    name: str
    type: Any
    says: str


class Call(Struct, frozen=True):
    """A row of the route table. `reads`: changes nothing, whatever its method.

    `takes` is the type of a JSON body, a dict of form fields, or a media type; `gives` the type of the JSON answer, a
    tuple of the types that it may have, or a media type; `refuses` has the statuses that are not evident from who may
    call and what is sent.
    """

    method: str
    path: str
    function: Callable[..., Any]
    reads: bool = False
    takes: Any = None
    gives: Any = Nothing
    status: int = 200
    query: tuple[Query, ...] = ()
    refuses: tuple[int, ...] = ()

    @property
    def needs(self) -> Set[str]:
        """The names of what the handler asks for."""
        return inspect.signature(self.function).parameters.keys()


def document(calls: list[Call], registry_url: str) -> dict[str, Any]:
    """The OpenAPI document of some calls."""
    schemas = _Schemas([Refused, *_types(calls)])
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        names = re.findall(r"{(\w+):\w+}", call.path)
        item = paths.setdefault(re.sub(r":\w+}", "}", call.path), {"parameters": [_in_path(name) for name in names]})
        item[call.method.lower()] = _operation(call, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quilt Registry",
            "version": __version__,
            "summary": "The JSON protocol that clients of the registry speak.",
        },
        "servers": [{"url": registry_url}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """JSON schemas of types, those of named ones kept as components."""

    def __init__(self, types: list[Any]):
        known, self.components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        self._known = {repr(type): schema for type, schema in zip(types, known, strict=True)}

    def of(self, type: Any) -> dict[str, Any]:
        return self._known[repr(type)]


def _types(calls: list[Call]) -> list[Any]:
    found = []
    for call in calls:
        found += [query.type for query in call.query]
        found += [] if call.takes is None or isinstance(call.takes, dict | str) else [call.takes]
        found += _either(call.gives)
    return found


def _either(gives: Any) -> list[Any]:
    """The types of a JSON answer; none where it is something else."""
    return [] if isinstance(gives, str) else list(gives) if isinstance(gives, tuple) else [gives]


def _in_path(name: str) -> dict[str, Any]:
    says = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {**says, "description": PARAMETERS[name]}


def _operation(call: Call, schemas: _Schemas) -> dict[str, Any]:
    topic = call.function.__module__.rpartition(".")[2]
    summary, _, more = (inspect.getdoc(call.function) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": f"{topic}_{call.function.__name__}",
        "tags": [topic],
        "summary": " ".join(summary.split()),
        "description": more,
        "parameters": [
            {"name": each.name, "in": "query", "description": each.says, "schema": schemas.of(each.type)}
            for each in call.query
        ],
        "responses": {str(call.status): _answer(call, schemas), **_refusals(call, schemas)},
    }
    if call.takes is not None:
        operation["requestBody"] = {"required": True, "content": _body(call.takes, schemas)}
    if call.needs & {"member", "session", "admin"}:
        operation["security"] = [{"token": []}]
    elif "caller" in call.needs:
        operation["security"] = [{}, {"token": []}]
    return operation


def _answer(call: Call, schemas: _Schemas) -> dict[str, Any]:
    if call.status >= 300:
        return {"description": "Goes on at another page.", "headers": {"Location": {"schema": {"type": "string"}}}}
    if isinstance(call.gives, str):
        return {"description": "Done.", "content": {call.gives: {"schema": {"type": "string"}}}}
    either = [schemas.of(type) for type in _either(call.gives)]
    return {"description": "Done.", "content": {JSON: {"schema": either[0] if len(either) == 1 else {"anyOf": either}}}}


def _body(takes: Any, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(takes, dict):
        fields = {name: {"type": "string", "description": says} for name, says in takes.items()}
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        return {"application/x-www-form-urlencoded": {"schema": schema}}
    if isinstance(takes, str):
        return {takes: {"schema": {"type": "string", "format": "binary"}}}
    return {JSON: {"schema": schemas.of(takes)}}


def _refusals(call: Call, schemas: _Schemas) -> dict[str, Any]:
    statuses = {*call.refuses, 503}
    if "{" in call.path:
        statuses |= {400, 404}
    if call.takes is not None or call.query:
        statuses |= {400}
    if call.takes is not None:
        statuses |= {413}
    if call.needs & {"member", "session", "admin", "caller", "visitor"}:
        statuses |= {401, 403}
    content = {JSON: {"schema": schemas.of(Refused)}}
    return {str(status): {"description": REASONS[status], "content": content} for status in sorted(statuses)}
