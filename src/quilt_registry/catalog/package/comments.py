"""The page of comments on a package."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect
from markupsafe import Markup
from msgspec import Struct

from quilt_registry import rate_limits
from quilt_registry.catalog import flash, forms, markdown, paging
from quilt_registry.catalog.package import header
from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.session import is_fragment
from quilt_registry.catalog.templates import fragment, render
from quilt_registry.catalog.urls import package_url
from quilt_registry.errors import Invalid, TooMany
from quilt_registry.packages import access, comments
from quilt_registry.packages.access import Caller, Member
from quilt_registry.packages.comments import Comment
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

PAGE_SIZE = 50


class ShownComment(Struct, frozen=True):
    """A comment as the page shows it."""

    key: str
    author: str
    created_at: datetime
    body: Markup
    may_remove: bool


async def page(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show the comments on a package, oldest first. `comment` in the URL selects the page with that comment."""
    head = await header.load(request, caller, registry, owner, name)
    return await _render(request, registry, head)


async def post(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Add a comment, or show how it will look. A rejected one stays in the form."""
    act, contents = forms.read(request, "act", "contents")
    contents = contents.replace("\r\n", "\n")
    if act == "preview":
        return await _preview(request, member, registry, (owner, name), contents)
    try:
        posted = await comments.post(registry, member, owner, name, contents)
    except (Invalid, TooMany) as error:
        head = await header.load(request, member, registry, owner, name)
        return await _reject(request, registry, head, contents, error)
    return Redirect(await _permanent_url(registry, member, (owner, name), posted), status_code=303)


async def _preview(
    request: AnyRequest, member: Member, registry: Registry, package: tuple[str, str], contents: str
) -> Response[Any]:
    head = await header.load(request, member, registry, *package)
    try:
        comments.check(contents)
        await registry.limits.hit(rate_limits.COMMENT_PREVIEW, member.name)
    except (Invalid, TooMany) as error:
        return await _reject(request, registry, head, contents, error)
    (body,) = await markdown.comments(registry.offload, [contents])
    if is_fragment(request):
        return fragment(request, "package/comment_preview.html", preview=body, problem="")
    return await _render(request, registry, head, contents=contents, preview=body)


async def _reject(
    request: AnyRequest, registry: Registry, head: Header, contents: str, error: Invalid | TooMany
) -> Response[Any]:
    status = 422 if isinstance(error, Invalid) else error.status
    if is_fragment(request):
        response = fragment(request, "package/comment_preview.html", 422, preview="", problem=error.message)
    else:
        response = await _render(request, registry, head, status, contents=contents, problem=error.message)
    response.headers.update(error.headers or {})
    return response


async def _permanent_url(registry: Registry, member: Member, package: tuple[str, str], comment: Comment) -> str:
    """Return the URL of a comment that stays right when the list grows to several pages."""
    found = await access.get_readable(registry.db, member, *package)
    is_on_first = await comments.position(registry.db, found, comment.id) < PAGE_SIZE
    return package_url(*package, "comments", comment=None if is_on_first else comment.id) + f"#c-{comment.id}"


async def _render(
    request: AnyRequest, registry: Registry, head: Header, status: int = 200, **form: Any
) -> Response[Any]:
    package = head.view.package
    page = paging.page_of(request, PAGE_SIZE, head.view.comments)
    if key := request.query_params.get("comment", ""):
        position = await comments.position(registry.db, package, key)
        page = paging.page_with(position, PAGE_SIZE, head.view.comments)
    found = await comments.list_range(registry.db, package, offset=page.offset, limit=page.size)
    bodies = await markdown.comments(registry.offload, [each.contents for each in found])
    shown = [_show(head, each, body) for each, body in zip(found, bodies, strict=True)]
    values = {"contents": "", "problem": "", "preview": "", **form}
    return await header.render(
        request, "package/comments.html", head, status,
        page=page, comments=shown, max_length=comments.MAX_COMMENT_LENGTH, **values,
    )  # fmt: skip


def _show(head: Header, comment: Comment, body: Markup) -> ShownComment:
    may_remove = access.may_remove_comment(head.caller, head.view.package, comment.author)
    return ShownComment(comment.id, comment.author, _time(comment), body, may_remove)


def _time(comment: Comment) -> datetime:
    return datetime.fromtimestamp(comment.created, UTC)


async def confirm_delete(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    key: FromPath[str],
) -> Response[Any]:
    """Ask before a comment is deleted."""
    package = await access.get_readable(registry.db, member, owner, name)
    comment = await comments.find(registry.db, package, key)
    access.check_remove_comment(member, package, comment.author)
    (body,) = await markdown.comments(registry.offload, [comment.contents])
    return render(
        request, "package/delete_comment.html", package=package, comment=comment, body=body, time=_time(comment)
    )


async def delete(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    key: FromPath[str],
) -> Response[Any]:
    """Delete a comment."""
    await comments.delete(registry.db, member, owner, name, key)
    return flash.redirect(request, package_url(owner, name, "comments"), "The comment is deleted.")
