"""How to set up a computer: the commands with this registry's names, the guide, and the welcome of a new registry."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.catalog.site import checks
from quilt_registry.catalog.templates import account_of, render
from quilt_registry.packages.access import Caller
from quilt_registry.registry import Registry
from quilt_registry.settings import Settings
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest

INSTALL_CLIENT = "pip install quilt==2.9.15"


class Setup(Struct, frozen=True):
    """Commands that set up a computer for a registry. `package` is a full name of the reader's first package."""

    registry_url: str
    install_client: str
    config: str
    login: str
    package: str

    @property
    def import_line(self) -> str:
        """The Python line that imports the package."""
        team, _, name = self.package.rpartition(":")
        owner, _, package = name.partition("/")
        return f"from quilt.{f'team.{team}' if team else 'data'}.{owner} import {package}"


def setup(settings: Settings, username: str) -> Setup:
    """Return the commands for a user of a registry."""
    team = settings.team_id
    return Setup(
        settings.registry_url,
        INSTALL_CLIENT,
        f"quilt config {team}".rstrip(),
        f"quilt login {team}".rstrip(),
        f"{team}:{username}/first" if team else f"{username}/first",
    )


def values(request: AnyRequest) -> dict[str, Any]:
    """Return what templates with the commands need."""
    account = account_of(request)
    return {"setup": setup(registry_of(request).settings, account.name if account else "you")}


async def guide(request: AnyRequest) -> Response[Any]:
    return render(request, "site/start.html", **values(request))


async def welcome(request: AnyRequest, caller: Caller, registry: Registry) -> Response[Any]:
    """Return the home page of a registry without packages."""
    is_admin = caller.account is not None and caller.account.is_admin
    found = await checks.run(registry) if is_admin else []
    return render(request, "site/welcome.html", checks=found, **values(request))
