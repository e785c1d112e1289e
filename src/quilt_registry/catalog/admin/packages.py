"""The page of all packages."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.catalog.admin import fields
from quilt_registry.catalog.paging import page_of
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import url
from quilt_registry.packages import reports
from quilt_registry.packages.access import Member
from quilt_registry.packages.reports import Sort
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

PAGE_SIZE = 50
# Sort keys with the heads of their columns.
COLUMNS: dict[Sort, str] = {
    "name": "Package",
    "versions": "Versions",
    "size": "Size",
    "pushes": "Pushes",
    "installs": "Installs",
    "views": "Views",
    "pushed": "Last push",
    "installed": "Last install",
}


async def page(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """List all packages, deleted ones too, with their activity."""
    text, sort = fields.text(request, "q"), fields.choice(request, "sort", COLUMNS) or "name"
    page = page_of(request, PAGE_SIZE, await reports.count_packages(registry.db, text))
    rows = await reports.find_packages(registry.db, member, text, sort, offset=page.offset, limit=page.size)
    links = {
        number: url("profile", "admin", "packages", q=text, sort=sort if sort != "name" else None, page=number)
        for number in (page.previous, page.next)
        if number
    }
    return render(
        request, "admin/packages.html", text=text, sort=sort, page=page, rows=rows, links=links, columns=COLUMNS
    )
