"""How to set up a computer: the commands with this registry's names, the guide, and the welcome of a new registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.catalog import commands
from quilt_registry.catalog.commands import Subject
from quilt_registry.catalog.site import checks
from quilt_registry.catalog.templates import account_of, render
from quilt_registry.packages.access import PUBLIC, TEAM, Caller
from quilt_registry.packages.listing import PackageRow
from quilt_registry.registry import Registry
from quilt_registry.settings import Settings
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest

FIRST = "first"  # the package of the examples
HASH = "HASH"


class Setup(Struct, frozen=True):
    """Commands that set up a computer for a registry."""

    registry_url: str
    install_client: str
    config: str
    login: str
    push: str


def values(request: AnyRequest) -> dict[str, Any]:
    """Return what templates with the commands need."""
    settings = registry_of(request).settings
    return {
        "setup": Setup(
            settings.registry_url,
            commands.INSTALL_CLIENT,
            commands.config(settings),
            commands.login(settings),
            commands.push(settings, _username(request), FIRST),
        )
    }


class Use(Struct, frozen=True):
    """Commands that use and share a package."""

    install: str
    install_exact: str
    python: str
    pin: str
    install_pinned: str
    share: str


async def guide(request: AnyRequest) -> Response[Any]:
    settings = registry_of(request).settings
    return render(request, "site/start.html", use=_use(settings, _username(request)), **values(request))


def _use(settings: Settings, owner: str) -> Use:
    handle = commands.handle(settings, owner, FIRST)
    exact = [
        commands.install(settings, Subject(owner, FIRST, kind, value))
        for kind, value in (("version", "1.0"), ("tag", "prod"), ("hash", HASH))
    ]
    pins = [by_file.text.split("\n") for _, _, by_file in exact]
    return Use(
        install="\n".join(
            [commands.install(settings, Subject(owner, FIRST))[0].text, commands.EXPORT.format(handle=handle)]
        ),
        install_exact="\n".join(by_command.text for by_command, _, _ in exact),
        python=commands.use(settings, owner, FIRST).text,
        pin="\n".join([pins[0][0], *(lines[1] for lines in pins)]),
        install_pinned=commands.INSTALL_ALL,
        share=commands.SHARE.format(handle=handle, grantee=TEAM if settings.allow_team_access else PUBLIC),
    )


async def welcome(
    request: AnyRequest, caller: Caller, registry: Registry, samples: Sequence[PackageRow] = ()
) -> Response[Any]:
    """Return the home page of a registry without packages, or with samples alone."""
    is_admin = caller.account is not None and caller.account.is_admin
    found = await checks.run(registry) if is_admin else []
    return render(request, "site/welcome.html", checks=found, samples=samples, **values(request))


def _username(request: AnyRequest) -> str:
    account = account_of(request)
    return account.name if account else "you"
