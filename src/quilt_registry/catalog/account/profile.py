"""The profile: packages of the member, and those that others shared."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.catalog.announcements import sentence
from quilt_registry.catalog.templates import render
from quilt_registry.packages import invitations, listing, profile as packages
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative

MAX_PACKAGES = 25  # in each list


async def profile(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Show the packages, and announce invitations that became access just now."""
    db = registry.db
    claimed = [] if is_speculative(request) else await invitations.claim(db, member.account)
    own = await listing.list_rows(db, member, owner=member.name, limit=MAX_PACKAGES + 1)
    shared = await listing.list_shared_rows(db, member, MAX_PACKAGES + 1)
    return render(
        request,
        "account/profile.html",
        own=own,
        shared=shared,
        limit=MAX_PACKAGES,
        pending=await packages.count_invitations(db, member),
        granted=await packages.find_grant_times(db, member, [(row.owner, row.name) for row in shared]),
        announcement=sentence(claimed),
    )
