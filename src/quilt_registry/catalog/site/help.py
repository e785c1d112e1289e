"""The page about the API, from its OpenAPI document."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.catalog.templates import render
from quilt_registry.web.requests import AnyRequest

# Titles of the document's tags, in the order in which a newcomer needs them.
TOPICS = {
    "session": "Sign-in",
    "accounts": "Accounts",
    "tokens": "Tokens",
    "packages": "Packages",
    "history": "Tags, versions, log",
    "sharing": "Sharing",
    "comments": "Comments",
    "activity": "Activity",
    "admin": "Administration",
    "audit": "Audit",
    "objects": "Objects",
    "client_log": "Build reports",
    "system": "Registry",
}
_REFERENCE = "#/components/schemas/"


class _Call(Struct, frozen=True):
    """A call of the API. Rows are pairs of a name or status, and its description."""

    id: str
    method: str
    path: str
    summary: str
    authorization: str
    parameters: list[tuple[str, str]]
    body: list[tuple[str, str]]
    response: list[tuple[str, str]]
    errors: list[tuple[str, str]]


async def api(request: AnyRequest) -> Response[Any]:
    document: dict[str, Any] = request.app.state.openapi
    calls: dict[str, list[_Call]] = {topic: [] for topic in TOPICS}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                call = _call(document, path, method, item["parameters"], operation)
                calls.setdefault(operation["tags"][0], []).append(call)
    topics = [(f"topic-{topic}", TOPICS.get(topic, topic.capitalize()), each) for topic, each in calls.items() if each]
    return render(request, "site/api.html", topics=topics)


def _call(
    document: dict[str, Any], path: str, method: str, in_path: list[dict[str, Any]], operation: dict[str, Any]
) -> _Call:
    responses = operation["responses"]
    return _Call(
        operation["operationId"],
        method.upper(),
        path,
        operation["summary"],
        _authorization(operation),
        [(each["name"], each["description"]) for each in [*in_path, *operation["parameters"]]],
        _fields(document, operation.get("requestBody", {})),
        [row for status, each in responses.items() if status < "400" for row in _fields(document, each)],
        [(status, each["description"]) for status, each in responses.items() if status >= "400"],
    )


def _authorization(operation: dict[str, Any]) -> str:
    security = operation.get("security", [{}])
    if {} not in security:
        return "token"
    return "token, unless the registry allows anonymous access" if len(security) > 1 else "none"


def _fields(document: dict[str, Any], message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the fields of a body, or its media type and type if it is not an object with known fields."""
    rows = []
    for media_type, content in message.get("content", {}).items():
        schema = content["schema"]
        for each in schema.get("anyOf", [schema]):
            fields = _resolve(document, each).get("properties")
            rows += [(name, _describe(field)) for name, field in (fields or {}).items()]
            if fields is None:
                rows.append((media_type, _describe(each)))
    return rows


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix(_REFERENCE)
    return document["components"]["schemas"][name] if name else schema


def _describe(schema: dict[str, Any]) -> str:
    """Describe a JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    if "anyOf" in schema:
        return " or ".join(_describe(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_describe(schema['items'])}" if "items" in schema else "list"
    if "description" in schema:
        return str(schema["description"]).rstrip(".")
    return str(schema.get("type", "any"))
