"""Comments (protocol §16)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.api import params
from quilt_registry.api.messages import json, read, stream
from quilt_registry.packages import access, comments
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


class NewComment(Struct):
    """Other fields are ignored."""

    contents: str


class Posted(Struct):
    comment: comments.Comment


class Comments(Struct):
    """All of them."""

    comments: list[comments.Comment]


async def post(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Comment on a package, in Markdown. Its owner gets a letter."""
    asked = await read(request, NewComment)
    return json(Posted(await comments.post(registry, member, owner, name, asked.contents)))


async def list_comments(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """The comments on a package, the oldest first: all, or with `limit` or `after` a page of them."""
    limit, after = (
        params.number(request, "limit", 1, comments.MAX_COMMENTS_PER_PAGE),
        params.number(request, "after", 0, params.MAX_BIGINT),
    )
    if limit is None and after is None:
        package = await access.get_readable(registry.db, caller, owner, name)
        return await stream(request, _all(registry, package))
    page_size = limit or comments.MAX_COMMENTS_PER_PAGE
    return json(await comments.page(registry.db, caller, owner, name, limit=page_size, after=after or 0))


async def _all(registry: Injected[Registry], package: Package) -> AsyncIterator[bytes]:
    lead = b'{"comments":['
    async for some in comments.pages(registry.db, package):
        yield lead + msgspec.json.encode(some)[1:-1]
        lead = b","
    yield b"]}" if lead == b"," else lead + b"]}"


async def delete(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    comment_id: FromPath[str],
) -> Response[Any]:
    """Delete a comment: for its author and the package's owner."""
    await comments.delete(registry.db, member, owner, name, comment_id)
    return json({})
