"""The comments on a package: what the letter about a comment leads to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.catalog.reading import AnyRequest, Reader, Registry, read_form, to_sign_in
from quilt_registry.catalog.rendering import render
from quilt_registry.errors import Invalid, TooMany
from quilt_registry.packages import access, comments
from quilt_registry.packages.access import Caller, Member
from quilt_registry.parts import Parts


async def page(request: AnyRequest, reader: Reader, parts: Registry, owner: str, name: str) -> Response[Any]:
    after = request.query_params.get("after", "")
    start = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0
    return await _page(request, reader, parts, owner, name, start)


async def post(request: AnyRequest, reader: Reader, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Say something. What is refused stays in the form."""
    if not isinstance(reader, Member):
        return to_sign_in(request)
    (contents,) = await read_form(request, "contents")
    contents = contents.replace("\r\n", "\n")
    try:
        said = await comments.post(parts.db, parts.site, parts.limits, reader, owner, name, contents)
    except (Invalid, TooMany) as error:
        status = 422 if isinstance(error, Invalid) else error.status
        return await _page(request, reader, parts, owner, name, 0, contents, error.message, status)
    return Redirect(f"{request.scope['path']}#c-{said.id}", status_code=303)


async def _page(
    request: AnyRequest, reader: Caller, parts: Parts, owner: str, name: str, start: int,
    contents: str = "", error: str = "", status: int = 200,
) -> Response[Any]:  # fmt: skip
    package = await access.to_read(parts.db, reader, owner, name)
    found = await comments.page(parts.db, reader, owner, name, comments.MOST, start)
    said = [(each, datetime.fromtimestamp(each.created, UTC)) for each in found.comments]
    return render(
        request,
        "comments.html",
        status=status,
        account=reader.account,
        package=package,
        said=said,
        next=found.next,
        longest=comments.LONGEST,
        contents=contents,
        error=error,
    )
