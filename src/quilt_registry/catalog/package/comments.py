"""The page of comments on a package."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect
from msgspec import Struct

from quilt_registry.catalog import forms
from quilt_registry.catalog.templates import render
from quilt_registry.database import Database
from quilt_registry.errors import Invalid, TooMany
from quilt_registry.packages import comments
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.packages.comments import CommentPage
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


class _CommentsPage(Struct):
    package: Package
    comments: CommentPage


async def page(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    after = request.query_params.get("after", "")
    start = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0
    return _render(request, await _read(registry.db, caller, owner, name, start))


async def post(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Add a comment. A rejected one stays in the form."""
    (contents,) = forms.read(request, "contents")
    contents = contents.replace("\r\n", "\n")
    try:
        posted = await comments.post(registry, member, owner, name, contents)
    except (Invalid, TooMany) as error:
        status = 422 if isinstance(error, Invalid) else error.status
        view = await _read(registry.db, member, owner, name)
        return _render(request, view, status, contents=contents, error=error.message)
    return Redirect(f"{request.scope['path']}#c-{posted.id}", status_code=303)


async def _read(db: Database, caller: Caller, owner: str, name: str, after: int = 0) -> _CommentsPage:
    limit = comments.MAX_COMMENTS_PER_PAGE
    return _CommentsPage(*await comments.get_page(db, caller, owner, name, limit=limit, after=after))


def _render(request: AnyRequest, view: _CommentsPage, status: int = 200, **form: str) -> Response[Any]:
    return render(
        request,
        "package/comments.html",
        status=status,
        package=view.package,
        comments=[(each, datetime.fromtimestamp(each.created, UTC)) for each in view.comments.comments],
        next=view.comments.next,
        max_length=comments.MAX_COMMENT_LENGTH,
        **{"contents": "", "error": "", **form},
    )
