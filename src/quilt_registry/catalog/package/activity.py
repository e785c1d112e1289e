"""The page of a package's activity: pushes, installs and views by week or month."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.catalog import charts
from quilt_registry.catalog.package import header
from quilt_registry.packages import activity
from quilt_registry.packages.access import Caller
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

ALL = "all"
RANGES = {"12": "12 weeks", "52": "52 weeks", ALL: "All, by month"}
DEFAULT_RANGE = "52"


async def page(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show how often a package was pushed, installed and viewed."""
    head = await header.load(request, caller, registry, owner, name)
    weeks = request.query_params.get("weeks", "")
    weeks = weeks if weeks in RANGES else DEFAULT_RANGE
    if weeks == ALL:
        found = await activity.by_month(registry.db, head.view.package)
    else:
        found = await activity.by_week(registry.db, head.view.package, int(weeks))
    axis = charts.axis(found.unit, found.starts)
    shown = [
        charts.chart(axis, "push", "pushes", found.pushes),
        charts.chart(axis, "install", "installs", found.installs),
        charts.chart(axis, "view", "views", found.views),
    ]
    return await header.render(
        request, "package/activity.html", head, axis=axis, charts=shown, ranges=RANGES, weeks=weeks
    )
