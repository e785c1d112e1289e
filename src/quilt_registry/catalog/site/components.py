"""A page with every component in all states, for those who change the style."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Response

from quilt_registry.catalog import commands
from quilt_registry.catalog.commands import Subject
from quilt_registry.catalog.templates import render
from quilt_registry.packages.access import Visibility
from quilt_registry.packages.listing import PackageRow
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest

VISIBILITIES: tuple[Visibility, ...] = ("private", "shared", "team", "public")
KINDS = {"csv": 1204, "parquet": 880, "md": 310, "png": 120, "json": 80, "npy": 44, "txt": 20, "xlsx": 9, "other": 4}


async def components(request: AnyRequest) -> Response[Any]:
    total = sum(KINDS.values())
    return render(
        request,
        "site/components_page.html",
        rows=_rows(),
        kinds=[(name, count, count / total) for name, count in KINDS.items()],
        weeks=[(week * week * 7) % 23 for week in range(52)],
        hashes=[_hash(str(number)) for number in range(6)],
        choices=commands.install(registry_of(request).settings, Subject("bo", "iris", "version", "1.1")),
    )


def _rows() -> list[PackageRow]:
    now = datetime.now(UTC)
    rows = [
        PackageRow("bo", f"iris_{visibility}", visibility, "1.1", _hash(visibility), 64_000, 5, now, "bo", "# Iris")
        for visibility in VISIBILITIES
    ]
    long = "measurements_of_" * 12
    rows.append(
        PackageRow("ada", long, "team", None, _hash(long), 8_100_000_000_000, 50_000, now - timedelta(40), "cy", "")
    )
    return [*rows, PackageRow("cy", "not_pushed_yet", "private", None, None, None, 0, now - timedelta(1), None, None)]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
