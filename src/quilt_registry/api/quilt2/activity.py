"""What was pushed lately, and how often things happen to a package (protocol §12)."""

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

USUAL, MOST = 10, 100  # recent packages


class RecentPackage(Struct):
    owner: str
    name: str
    updated_at: str


class Recent(Struct):
    packages: list[RecentPackage]


class Series(Struct):
    """Counts of the last 52 weeks, the oldest first; the dates are Unix time."""

    startDate: int  # noqa: N815  the protocol's names
    endDate: int  # noqa: N815
    frequency: str
    timeSeries: list[int]  # noqa: N815
    total: int


async def recent(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """The packages pushed last, of those that everybody here may see. A `count` that is no number counts as ten."""
    is_number = re.fullmatch("-?[0-9]+", request.query_params.get("count", ""))
    most = min(params.number(request, "count", 0, params.MAX_BIGINT) or 0, MOST) if is_number else USUAL
    found = await listing.recent(registry.db, registry.policy, most)
    return json(Recent([RecentPackage(each.owner, each.name, each.updated_at.isoformat()) for each in found]))


async def series(
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    event: FromPath[str],
) -> Response[Any]:
    """How often a package was pushed, installed, previewed or deleted, by weeks that begin on Monday, 00:00 UTC."""
    found = await activity.series(registry.db, caller, owner, name, event)
    start, end = int(found.start.timestamp()), int(found.end.timestamp())
    return json(Series(start, end, "week", found.counts, found.total))
