"""Recent pushes, and how often a package was used (protocol §12)."""

from __future__ import annotations

import re
from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.api import params
from quilt_registry.api.messages import json
from quilt_registry.packages import activity, listing
from quilt_registry.packages.access import Caller
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

DEFAULT_RECENT_PACKAGES, MAX_RECENT_PACKAGES = 10, 100


class RecentPackageEntry(Struct):
    """A package, and the time of its last push in ISO 8601."""

    owner: str
    name: str
    updated_at: str


class RecentPackageList(Struct):
    """Packages, the last pushed first."""

    packages: list[RecentPackageEntry]


class WeeklyCounts(Struct):
    """Counts of the last 52 weeks, oldest first, and of all time. The dates are Unix time."""

    startDate: int  # noqa: N815  the protocol's names
    endDate: int  # noqa: N815
    frequency: str
    timeSeries: list[int]  # noqa: N815
    total: int


async def list_recent(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """List the last pushed packages that everyone on this registry may read."""
    found = await listing.list_recent(registry.db, registry.policy, _count(request))
    entries = [RecentPackageEntry(each.owner, each.name, each.updated_at.isoformat()) for each in found]
    return json(RecentPackageList(entries))


def _count(request: AnyRequest) -> int:
    if not re.fullmatch("-?[0-9]+", request.query_params.get("count", "")):
        return DEFAULT_RECENT_PACKAGES
    return min(params.number(request, "count", 0, params.MAX_BIGINT) or 0, MAX_RECENT_PACKAGES)


async def get_time_series(
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    event: FromPath[str],
) -> Response[Any]:
    """Return how often a package was pushed, installed, previewed or deleted each week.

    Weeks begin on Monday, 00:00 UTC.
    """
    series = await activity.series(registry.db, caller, owner, name, event)
    start, end = int(series.start.timestamp()), int(series.end.timestamp())
    return json(WeeklyCounts(start, end, "week", series.counts, series.total))
