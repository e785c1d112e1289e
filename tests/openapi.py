"""The OpenAPI document, and a check that responses match it."""

from __future__ import annotations

import functools
import json
from typing import Any

import httpx
import jsonschema_rs

from quilt_registry import app


@functools.cache
def document() -> dict[str, Any]:
    """Return the document as clients get it."""
    found: dict[str, Any] = json.loads(json.dumps(app.openapi_document("http://localhost:5000")))
    return found


def check(call: str, response: httpx.Response) -> None:
    """Assert that a response matches the document. `call`: method and path with {parameters} and no final slash."""
    method, path = call.lower().split(" ", 1)[0], call.split(" ", 1)[1]
    (item,) = (item for known, item in document()["paths"].items() if known.rstrip("/") == path)
    responses = item[method]["responses"]
    assert str(response.status_code) in responses, f"{call} answered {response.status_code}: {response.text[:300]}"
    content = responses[str(response.status_code)].get("content", {})
    kind = response.headers.get("content-type", "").partition(";")[0]
    assert kind in content or not content, f"{call} answered {kind}"
    if kind == "application/json" and response.request.method != "HEAD":
        schema = {**content[kind]["schema"], "components": document()["components"]}
        jsonschema_rs.validate(schema, response.json())
