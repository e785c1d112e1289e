"""The page of a package's pushes, and the forms for their tags and versions."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.catalog import flash, formats, forms, paging, session
from quilt_registry.catalog.package import header
from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import package_url
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid
from quilt_registry.packages import access, history
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

PAGE_SIZE = 50


class NameForm(Struct, frozen=True):
    """A form that names a push: `act` is `tag` or `version`, `push` the id of the push."""

    act: str = ""
    push: str = ""
    hash: str = ""
    tag: str = ""
    version: str = ""


async def page(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show the pushes of a package, newest first."""
    head = await header.load(request, caller, registry, owner, name)
    return await _render(request, registry, head)


async def add_name(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Add a tag or a version to a push. A rejected one stays in the form."""
    form = NameForm(*forms.read(request, *NameForm.__struct_fields__))
    package = await access.get_readable(registry.db, member, owner, name)
    try:
        message = await put_name(registry.db, member, package, form)
    except (Invalid, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 422
        head = await header.load(request, member, registry, owner, name)
        return await _render(request, registry, head, status, form=form, problem=error.message)
    return flash.redirect(request, session.path_and_query(request), message)


async def put_name(db: Database, member: Member, package: Package, form: NameForm) -> str:
    """Add a tag or a version to a push, and return what was done. Raise NotFound, Forbidden, Invalid, Conflict."""
    put = _put_version if form.act == "version" else _put_tag
    return await put(db, member, package, form)


async def _put_tag(db: Database, member: Member, package: Package, form: NameForm) -> str:
    await history.put_tag(db, member, package.owner, package.name, form.tag, form.hash)
    return f"The tag {form.tag} now points at {formats.short(form.hash)}."


async def _put_version(db: Database, member: Member, package: Package, form: NameForm) -> str:
    version = form.version.strip()
    try:
        await history.put_version(db, member, package.owner, package.name, version, form.hash)
    except Invalid:
        raise Invalid("Enter a version such as 1.2 or 2.0rc1, as PEP 440 defines them.") from None
    except Conflict:
        raise Conflict(
            f"Version {history.normalize(version)} already exists and cannot move. Choose another."
        ) from None
    return f"Version {history.normalize(version)} is {formats.short(form.hash)}."


async def _render(
    request: AnyRequest, registry: Registry, head: Header, status: int = 200, **form: Any
) -> Response[Any]:
    page = paging.page_of(request, PAGE_SIZE, head.view.package.pushes)
    pushes = []
    if not page.is_beyond:
        pushes = await history.list_pushes(registry.db, head.view.package, offset=page.offset, limit=page.size)
    values = {"page": page, "pushes": pushes, "form": NameForm(), "problem": "", **form}
    return await header.render(request, "package/revisions.html", head, status, **values)


async def confirm_remove_tag(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Ask before a tag is removed."""
    package, instance = await history.get_tag(registry.db, member, owner, name, tag)
    access.check_owner(member, owner, "remove tags")
    return render(request, "package/remove_tag.html", package=package, instance=instance, tag=tag)


async def remove_tag(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Remove a tag."""
    await access.get_readable(registry.db, member, owner, name)
    await history.delete_tag(registry.db, member, owner, name, tag)
    return flash.redirect(request, package_url(owner, name, "revisions"), f"The tag {tag} is removed.")
