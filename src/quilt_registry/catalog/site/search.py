"""The search page."""

from __future__ import annotations

import re
from typing import Any, cast

from litestar import Response
from msgspec import Struct

from quilt_registry.accounts import users
from quilt_registry.catalog.formats import plain_text
from quilt_registry.catalog.paging import page_number
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import url
from quilt_registry.packages import faceted_search
from quilt_registry.packages.access import PUBLIC, TEAM, Caller
from quilt_registry.packages.faceted_search import PAGE_SIZE, Filters, Found, Order, Scope
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

MAX_QUERY_LENGTH = 200  # characters
MAX_PAGE = 10_000 // PAGE_SIZE
MAX_FILE_TYPES = 20
EXCERPT_LENGTH = 600  # characters of Markdown without a query: more than two lines
ORDERS: dict[Order, str] = {"best": "Best match", "pushed": "Recently pushed", "name": "Name", "size": "Size"}
SCOPES: dict[Scope, str] = {"mine": "Mine", "shared": "Shared with me", "team": "Team", "public": "Public"}
PERIODS = {7: "Past week", 30: "Past month", 90: "Past 3 months", 365: "Past year"}
_FILE_TYPE = re.compile(r"[\w+-]{1,32}")


class Asked(Struct, frozen=True):
    """What the URL asks for. What means nothing in it counts as absent."""

    query: str
    order: Order
    filters: Filters
    page: int

    @property
    def default_order(self) -> Order:
        return "best" if self.query else "pushed"

    @property
    def file_types(self) -> list[str]:
        """The file types as they are in the URL: without dots."""
        return [each.removeprefix(".") for each in self.filters.file_types]

    def url(self, **changes: Any) -> str:
        """Return the path of this search with other fields. Any change but `page` leads to the first page."""
        fields: dict[str, Any] = {
            "q": self.query,
            "sort": self.order,
            "visibility": self.filters.scope,
            "owner": self.filters.owner,
            "type": self.file_types,
            "within": self.filters.days,
            **changes,
        }
        if fields["sort"] == self.default_order:
            del fields["sort"]
        return url("search", **fields)

    @property
    def active(self) -> list[tuple[str, str]]:
        """The filters in effect: a text, and the path of the search without it."""
        filters = self.filters
        rows = [(SCOPES[filters.scope], self.url(visibility=None))] if filters.scope else []
        rows += [(f"by {filters.owner}", self.url(owner=None))] if filters.owner else []
        types = self.file_types
        rows += [(each, self.url(type=[other for other in types if other != each])) for each in types]
        if filters.days:
            rows.append((PERIODS.get(filters.days, f"Past {filters.days} days"), self.url(within=None)))
        return rows


async def search(request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry]) -> Response[Any]:
    typed = request.query_params.get("q", "").strip()
    scopes = _scopes(caller)
    asked = _asked(request, typed[:MAX_QUERY_LENGTH].strip(), scopes)
    found = await faceted_search.find(
        registry.db, caller, asked.query, asked.filters, order=asked.order, page=asked.page
    )
    return render(
        request,
        "site/search.html",
        asked=asked,
        found=found,
        excerpts=await _excerpts(registry, asked.query, found),
        pages=min(MAX_PAGE, max(1, -(-found.total // PAGE_SIZE))),
        is_cut=len(typed) > MAX_QUERY_LENGTH,
        scopes=scopes,
        orders=[
            (text, asked.url(sort=key), key == asked.order)
            for key, text in ORDERS.items()
            if asked.query or key != "best"
        ],
        periods=PERIODS,
        file_types=_file_types(asked, found),
    )


def _scopes(caller: Caller) -> dict[Scope, str]:
    """Return the kinds of visibility by which the caller can filter."""
    grants = caller.grants
    offered = {
        "mine": bool(caller.name),
        "shared": bool(caller.name),
        "team": TEAM in grants,
        "public": PUBLIC in grants,
    }
    return {scope: text for scope, text in SCOPES.items() if offered[scope]}


def _asked(request: AnyRequest, query: str, scopes: dict[Scope, str]) -> Asked:
    fields = request.query_params
    owner, days = fields.get("owner", "").strip(), fields.get("within", "")
    types = [each.lower().removeprefix(".") for each in fields.getall("type", [])][:MAX_FILE_TYPES]
    filters = Filters(
        scope=next((scope for scope in scopes if scope == fields.get("visibility")), None),
        owner=owner if users.is_username(owner) else "",
        file_types=tuple(dict.fromkeys(f".{each}" for each in types if _FILE_TYPE.fullmatch(each))),
        days=int(days) if re.fullmatch("[1-9][0-9]{0,3}", days) else None,
    )
    order: Order = "best" if query else "pushed"
    if fields.get("sort") in ORDERS and (query or fields["sort"] != "best"):
        order = cast(Order, fields["sort"])
    return Asked(query, order, filters, min(page_number(request), MAX_PAGE))


async def _excerpts(registry: Registry, query: str, found: Found) -> list[list[tuple[str, bool]]]:
    """Return the excerpt of each row's README, in pieces that match the query or do not."""
    readmes = [row.readme or "" for row in found.rows]
    if not query:
        return [[(plain_text(readme[:EXCERPT_LENGTH]), False)] for readme in readmes]
    return await faceted_search.mark(registry.db, query, [plain_text(readme) for readme in readmes])


def _file_types(asked: Asked, found: Found) -> list[tuple[str, int | None]]:
    """Return the file types to choose from, with the number of packages; those asked for are among them."""
    counts: dict[str, int | None] = {extension.removeprefix("."): count for extension, count in found.file_types}
    return [*counts.items(), *((each, None) for each in asked.file_types if each not in counts)]
