"""The settings of a package: its tags and versions, and its deletion."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.catalog import flash, forms
from quilt_registry.catalog.package import header, revisions
from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.package.revisions import NameForm
from quilt_registry.catalog.session import path_and_query
from quilt_registry.errors import Conflict, Invalid
from quilt_registry.packages import access, history, listing
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

MAX_NAMES = 100  # tags, and versions, that the page lists


async def page(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show the settings of a package to its owner."""
    return await _render(request, registry, await _load(request, member, registry, owner, name))


async def change(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Add a tag or a version, or delete the package if its name is typed."""
    head = await _load(request, member, registry, owner, name)
    act, typed = forms.read(request, "act", "confirm")
    if act != "delete":
        return await _add_name(request, registry, member, head)
    if typed.strip() != f"{owner}/{name}":
        problem = f"Type {owner}/{name} to delete this package."
        return await _render(request, registry, head, 422, typed=typed, delete_problem=problem)
    await listing.delete(registry.db, member, owner, name)
    return flash.redirect(request, "/profile", f"The package {owner}/{name} is deleted.")


async def _load(request: AnyRequest, member: Member, registry: Registry, owner: str, name: str) -> Header:
    head = await header.load(request, member, registry, owner, name)
    access.check_owner(member, owner, "change its settings")
    return head


async def _add_name(request: AnyRequest, registry: Registry, member: Member, head: Header) -> Response[Any]:
    form = NameForm(*forms.read(request, *NameForm.__struct_fields__))
    try:
        message = await revisions.put_name(registry.db, member, head.view.package, form)
    except (Invalid, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 422
        return await _render(request, registry, head, status, form=form, problem=error.message)
    return flash.redirect(request, path_and_query(request), message)


async def _render(
    request: AnyRequest, registry: Registry, head: Header, status: int = 200, **form: Any
) -> Response[Any]:
    owner, name = head.view.package.owner, head.view.package.name
    tags = await history.list_tags(registry.db, head.caller, owner, name)
    versions = await history.list_versions(registry.db, head.caller, owner, name)
    values = {"form": NameForm(), "problem": "", "typed": "", "delete_problem": "", **form}
    return await header.render(
        request, "package/settings.html", head, status,
        tags=tags, versions=versions[::-1], max_names=MAX_NAMES, **values,
    )  # fmt: skip
