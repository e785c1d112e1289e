"""Comments (protocol §16)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Response
from msgspec import Struct

from quilt_registry.packages import access, comments
from quilt_registry.packages.access import Package
from quilt_registry.parts import Parts
from quilt_registry.wire import queries
from quilt_registry.wire.calling import AnyCaller, AnyRequest, Registry, SignedIn
from quilt_registry.wire.messages import json, read, stream


class NewComment(Struct):
    """Other fields are ignored."""

    contents: str


class Posted(Struct):
    comment: comments.Comment


class Comments(Struct):
    """All of them."""

    comments: list[comments.Comment]


async def post(request: AnyRequest, member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Comment on a package, in Markdown. Its owner gets a letter."""
    asked = await read(request, NewComment)
    return json(Posted(await comments.post(parts.db, parts.site, parts.limits, member, owner, name, asked.contents)))


async def list_comments(
    request: AnyRequest, caller: AnyCaller, parts: Registry, owner: str, name: str
) -> Response[Any]:
    """The comments on a package, the oldest first: all, or with `limit` or `after` a page of them."""
    limit, after = (
        queries.number(request, "limit", 1, comments.MOST),
        queries.number(request, "after", 0, queries.HIGHEST),
    )
    if limit is None and after is None:
        package = await access.to_read(parts.db, caller, owner, name)
        return await stream(request, _all(parts, package))
    return json(await comments.page(parts.db, caller, owner, name, limit or comments.MOST, after or 0))


async def _all(parts: Parts, package: Package) -> AsyncIterator[bytes]:
    lead = b'{"comments":['
    async for some in comments.pages(parts.db, package):
        yield lead + msgspec.json.encode(some)[1:-1]
        lead = b","
    yield b"]}" if lead == b"," else lead + b"]}"


async def delete(member: SignedIn, parts: Registry, owner: str, name: str, comment_id: str) -> Response[Any]:
    """Delete a comment: for its author and the package's owner."""
    await comments.delete(parts.db, member, owner, name, comment_id)
    return json({})
