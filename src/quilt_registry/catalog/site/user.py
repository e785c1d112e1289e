"""The page of a user, with those of their packages that the reader may see."""

from __future__ import annotations

from typing import Any, cast

from litestar import Response
from litestar.params import FromPath

from quilt_registry.accounts import users
from quilt_registry.catalog.paging import page_number
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import url, with_query
from quilt_registry.errors import NotFound
from quilt_registry.packages import listing
from quilt_registry.packages.access import Caller
from quilt_registry.packages.listing import Sort
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

PAGE_SIZE = 50
SORTS: dict[Sort, str] = {"pushed": "Recently pushed", "name": "Name", "size": "Size"}


async def user(
    request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str]
) -> Response[Any]:
    """Return the page of a user. To visitors, a user without public packages looks like one who does not exist."""
    profile = await users.find_profile(registry.db, owner)
    total = await listing.count_readable(registry.db, caller, owner)
    if profile is None or (caller.account is None and total == 0):
        raise NotFound("There is no user of this name.")
    sort = request.query_params.get("sort", "")
    sort = cast(Sort, sort if sort in SORTS else "pushed")
    page = page_number(request)
    rows = await listing.list_rows(
        registry.db, caller, owner=owner, sort=sort, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE
    )
    pages = max(1, -(-total // PAGE_SIZE))
    path = url("user", profile.name)
    orders = [(text, with_query(path, sort=key), key == sort) for key, text in SORTS.items()]
    return render(
        request,
        "site/user.html",
        profile=profile,
        rows=rows,
        total=total,
        sort=sort,
        orders=orders,
        page=page,
        pages=pages,
    )
