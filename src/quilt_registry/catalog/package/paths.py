"""Paths of nodes in URLs."""

from __future__ import annotations

from urllib.parse import unquote

from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.site.refusal import PageRefusal
from quilt_registry.errors import NotFound
from quilt_registry.packages import files
from quilt_registry.packages.files import Node, NodeNotFound
from quilt_registry.packages.resolve import Version
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, raw_path


async def find(request: AnyRequest, registry: Registry, head: Header) -> tuple[Version, Node]:
    """Return the shown version, and its node at the path of the URL. Raise NotFound, PageRefusal."""
    version = head.view.version
    if version is None:
        raise NotFound("This package has no pushes yet.")
    path = _path_of(request)
    try:
        return version, await files.get(registry.db, version.instance, path)
    except NodeNotFound as error:
        message = f"This version has no file or folder {'/'.join(path)}."
        values = {"header": head, "message": message, "parent": error.parent}
        raise PageRefusal(404, message, "package/no_file.html", values) from None


def _path_of(request: AnyRequest) -> list[str]:
    """Return the names in a path `/package/OWNER/NAME/files/…`. No name has an encoded slash."""
    return [unquote(segment) for segment in raw_path(request).strip("/").split("/")[4:]]
