"""The overview of a package."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect

from quilt_registry.catalog import commands
from quilt_registry.catalog.announcements import open_package
from quilt_registry.catalog.commands import Subject
from quilt_registry.catalog.package import document, header
from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.urls import package_url
from quilt_registry.errors import SignInNeeded
from quilt_registry.packages import activity, files, invitations, overview as operations
from quilt_registry.packages.access import Caller
from quilt_registry.packages.files import Row
from quilt_registry.packages.resolve import Version
from quilt_registry.registry import Registry
from quilt_registry.settings import Settings
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative

MAX_KINDS = 8  # of files, in the bar; the others are one kind
MAX_CONTENTS = 12  # entries of the top folder


async def overview(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    record: Injected[bool],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show a package. `quilt push` prints the URL of this page, and an invitation links to it, with a secret."""
    if invitation := request.query_params.get("invitation"):
        if caller.account is None:
            raise SignInNeeded("Sign in to accept the invitation.")
        accepted = (
            None if is_speculative(request) else await invitations.accept(registry.db, caller.account, invitation)
        )
        if accepted:
            return open_package(request, accepted)
        return Redirect(package_url(owner, name), status_code=302)  # without the secret
    head = await header.load(request, caller, registry, owner, name)
    version, package = head.view.version, head.view.package
    if version is None:
        return await header.render(request, "package/no_push.html", head)
    summary = await operations.read(registry.db, caller, package, version.instance, record=record)
    text = summary.readme.text if summary.readme else None
    return await header.render(
        request,
        "package/overview.html",
        head,
        overview=summary,
        readme=await document.render(registry, head, text) if text else None,
        excerpt=text or "",
        kinds=_kinds(version),
        contents=await _contents(registry, version),
        activity=await activity.by_week(registry.db, package),
        install=commands.install(registry.settings, head.subject()),
        pinned=_pinned(registry.settings, head, version),
        use=commands.use(registry.settings, package.owner, package.name),
        push=commands.push(registry.settings, package.owner, package.name),
    )


def _pinned(settings: Settings, head: Header, version: Version) -> str:
    """Return the command that installs exactly the shown version, whatever its tags will be."""
    package = head.view.package
    return commands.install(settings, Subject(package.owner, package.name, "hash", version.top_hash))[0].text


def _kinds(version: Version) -> list[tuple[str, int, float]]:
    """Return rows of an extension, its number of files and their share, the largest first."""
    total = version.files
    ranked = sorted(version.file_types.items(), key=lambda item: (-item[1], item[0]))
    rows = [(extension.lstrip(".") or "no extension", count) for extension, count in ranked[:MAX_KINDS]]
    if rest := sum(count for _, count in ranked[MAX_KINDS:]):
        rows.append(("other", rest))
    return [(extension, count, count / total) for extension, count in rows]


async def _contents(registry: Registry, version: Version) -> list[Row]:
    """Return the first entries of the top folder."""
    root = await files.get(registry.db, version.instance, [])
    return (await files.list_folder(root, "name", None)).rows[:MAX_CONTENTS]
