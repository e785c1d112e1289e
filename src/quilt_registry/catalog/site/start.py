"""How to set up a computer: the commands with this registry's names, the guide, and the welcome of a new registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.catalog import commands
from quilt_registry.catalog.site import checks
from quilt_registry.catalog.templates import account_of, render
from quilt_registry.packages.access import Caller
from quilt_registry.packages.listing import PackageRow
from quilt_registry.registry import Registry
from quilt_registry.settings import Settings
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest

EXAMPLE = "first"  # name of a package


class Setup(Struct, frozen=True):
    """Commands that set up a computer for a registry. `package` is a full name of the reader's first package."""

    registry_url: str
    install_client: str
    config: str
    login: str
    package: str
    import_line: str


def setup(settings: Settings, username: str) -> Setup:
    """Return the commands for a user of a registry."""
    return Setup(
        settings.registry_url,
        commands.INSTALL_CLIENT,
        commands.CONFIGURE.format(team=settings.team_id).rstrip(),
        commands.SIGN_IN.format(team=settings.team_id).rstrip(),
        commands.handle(settings, username, EXAMPLE),
        commands.use(settings, username, EXAMPLE).text,
    )


def values(request: AnyRequest) -> dict[str, Any]:
    """Return what templates with the commands need."""
    account = account_of(request)
    return {"setup": setup(registry_of(request).settings, account.name if account else "you")}


async def guide(request: AnyRequest) -> Response[Any]:
    return render(request, "site/start.html", **values(request))


async def welcome(
    request: AnyRequest, caller: Caller, registry: Registry, samples: Sequence[PackageRow] = ()
) -> Response[Any]:
    """Return the home page of a registry without packages, or with nothing but sample packages."""
    is_admin = caller.account is not None and caller.account.is_admin
    found = await checks.run(registry) if is_admin else []
    return render(request, "site/welcome.html", checks=found, samples=samples, **values(request))
