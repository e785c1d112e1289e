"""Comments on packages (protocol §16)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.api import params
from quilt_registry.api.messages import json, read, stream
from quilt_registry.packages import comments
from quilt_registry.packages.access import Caller, Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


class CommentRequest(Struct):
    """A comment in Markdown. Other fields are ignored."""

    contents: str


class NewComment(Struct):
    """The comment that was added."""

    comment: comments.Comment


class CommentList(Struct):
    """All comments on a package, oldest first."""

    comments: list[comments.Comment]


async def create_comment(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Add a comment to a package, and notify the package's owner by email."""
    body = await read(request, CommentRequest)
    return json(NewComment(await comments.post(registry, member, owner, name, body.contents)))


async def list_comments(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """List the comments on a package, oldest first: all, or a page if `limit` or `after` is given."""
    limit = params.number(request, "limit", 1, comments.MAX_COMMENTS_PER_PAGE)
    after = params.number(request, "after", 0, params.MAX_BIGINT)
    if limit is None and after is None:
        return await stream(request, _write_all(comments.iterate(registry.db, caller, owner, name)))
    page_size = limit or comments.MAX_COMMENTS_PER_PAGE
    _, page = await comments.get_page(registry.db, caller, owner, name, limit=page_size, after=after or 0)
    return json(page)


async def _write_all(pages: AsyncIterator[list[comments.Comment]]) -> AsyncGenerator[bytes]:
    lead = b'{"comments":['
    async for page in pages:
        yield lead + msgspec.json.encode(page)[1:-1]
        lead = b","
    yield b"]}" if lead == b"," else lead + b"]}"


async def delete_comment(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    comment_id: FromPath[str],
) -> Response[Any]:
    """Delete a comment as its author or as the package's owner."""
    await comments.delete(registry.db, member, owner, name, comment_id)
    return json({})
