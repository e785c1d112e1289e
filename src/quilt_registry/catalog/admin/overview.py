"""The first page for admins: numbers, the newest users, the latest events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import audit
from quilt_registry.accounts import reports as account_reports
from quilt_registry.accounts.reports import UserFilter
from quilt_registry.audit import AuditFilter
from quilt_registry.catalog.admin import events, fields
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import url
from quilt_registry.packages import reports
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

MAX_ROWS = 10  # in each list


async def page(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Show the numbers. Links of the original catalog to a user's or package's events lead to the audit trail."""
    if audited := fields.text(request, "audit"):
        field = "package" if "/" in audited else "user"
        return Redirect(url("profile", "admin", "audit", **{field: audited}), status_code=303)
    return render(
        request,
        "admin/overview.html",
        accounts=await account_reports.count_accounts(registry.db),
        totals=await reports.totals(registry.db),
        users=await account_reports.find_users(registry.db, UserFilter(), "joined", offset=0, limit=MAX_ROWS),
        events=await audit.find(registry.db, AuditFilter(), MAX_ROWS),
        words=events.WORDS,
        week_ago=(datetime.now(UTC) - timedelta(days=7)).date().isoformat(),
    )
