"""What helps people along: the calls of the API, from its OpenAPI document."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.accounts.users import Account
from quilt_registry.catalog.templates import render
from quilt_registry.web.requests import AnyRequest, Injected

REFERENCE = "#/components/schemas/"
# Topics of calls in the order of a first use, by their names in the document.
TOPICS = {
    "session": "Signing in",
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
    "system": "The registry itself",
}


class Shown(Struct, frozen=True):
    """A call as the page shows it: the rows are pairs of a name or status, and what it is."""

    id: str
    method: str
    path: str
    summary: str
    who: str
    parameters: list[tuple[str, str]]
    takes: list[tuple[str, str]]
    gives: list[tuple[str, str]]
    refuses: list[tuple[str, str]]


async def api(request: AnyRequest, account: Injected[Account | None]) -> Response[Any]:
    document: dict[str, Any] = request.app.state.openapi
    found: dict[str, list[Shown]] = {topic: [] for topic in TOPICS}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                shown = _shown(document, path, method, item["parameters"], operation)
                found.setdefault(operation["tags"][0], []).append(shown)
    topics = [(TOPICS.get(topic, topic.capitalize()), calls) for topic, calls in found.items() if calls]
    return render(request, "site/api.html", account=account, topics=topics)


def _shown(
    document: dict[str, Any], path: str, method: str, in_path: list[dict[str, Any]], operation: dict[str, Any]
) -> Shown:
    answers = {status: answer for status, answer in operation["responses"].items() if status < "400"}
    return Shown(
        operation["operationId"],
        method.upper(),
        path,
        operation["summary"],
        _who(operation),
        [(each["name"], each["description"]) for each in [*in_path, *operation["parameters"]]],
        _fields(document, operation.get("requestBody", {})),
        [row for answer in answers.values() for row in _fields(document, answer)],
        [(status, each["description"]) for status, each in operation["responses"].items() if status >= "400"],
    )


def _who(operation: dict[str, Any]) -> str:
    security = operation.get("security", [{}])
    if {} not in security:
        return "whoever has a token"
    return "anybody, where the registry lets anybody look; else whoever has a token" if len(security) > 1 else "anybody"


def _fields(document: dict[str, Any], said: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields of a body, or its kind where it is no object."""
    rows = []
    for kind, content in said.get("content", {}).items():
        schema = content["schema"]
        for each in schema.get("anyOf", [schema]):
            fields = _resolved(document, each).get("properties")
            rows += [(name, _kind(field)) for name, field in (fields or {}).items()]
            if fields is None:
                rows.append((kind, _kind(each)))
    return rows


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix(REFERENCE)
    return document["components"]["schemas"][name] if name else schema


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REFERENCE)
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}" if "items" in schema else "list"
    if "description" in schema:
        return str(schema["description"]).rstrip(".")
    kind = str(schema.get("type", "anything"))
    return {"string": "text", "boolean": "true or false"}.get(kind, kind)
