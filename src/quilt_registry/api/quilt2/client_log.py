"""Build reports of released clients (protocol §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.api.messages import json, read
from quilt_registry.errors import Invalid
from quilt_registry.web.requests import AnyRequest


class BuildReport(Struct):
    """A report of a client. Its details are not read."""

    type: str


async def accept_build_reports(request: AnyRequest) -> Response[Any]:
    """Accept the reports that released clients send after each build, and discard them."""
    entries = await read(request, list[BuildReport])
    if any(entry.type != "build" for entry in entries):
        raise Invalid("Each entry must have the type 'build'.")
    return json({})
