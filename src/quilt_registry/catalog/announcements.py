"""What a user is told when invitations have become access."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.catalog.urls import package_url
from quilt_registry.packages.invitations import InvitedPackage
from quilt_registry.web import flash
from quilt_registry.web.requests import AnyRequest

MAX_PACKAGES = 3  # that are named


def announce(request: AnyRequest, path: str, claimed: list[InvitedPackage]) -> Response[Any]:
    """Return a redirect to a page that announces packages, if there are any."""
    response = Redirect(path, status_code=303)
    if claimed:
        flash.put(request, response, sentence(claimed))
    return response


def open_package(request: AnyRequest, package: InvitedPackage) -> Response[Any]:
    """Return a redirect from the link of an invitation to its package."""
    response = Redirect(package_url(package.owner, package.name), status_code=302)
    flash.put(request, response, package.announcement)
    return response


def sentence(claimed: list[InvitedPackage]) -> str:
    """Return the announcement of packages, such as `bo shared bo/secret with you.` for one of them."""
    named = [package.announcement for package in claimed[:MAX_PACKAGES]]
    left = len(claimed) - len(named)
    return " ".join([*named, f"And {left} more, on your profile."] if left else named)
