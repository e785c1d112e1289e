"""The download of one file from its page."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect

from quilt_registry.catalog.package import header, paths
from quilt_registry.manifests.pages import FileEntry, GroupEntry, TableEntry
from quilt_registry.packages import files
from quilt_registry.packages.access import Caller
from quilt_registry.packages.files import Node
from quilt_registry.previews import kinds
from quilt_registry.registry import Registry
from quilt_registry.web import objects
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative

URL_LIFETIME = 300  # seconds
_HEADERS = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}


async def download(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Send a file: from a bucket by a URL that soon expires, from a directory by this response.

    A file or table of several objects has a page with a link for each of them.
    """
    if request.method == "GET" and is_speculative(request):
        return Response(None, status_code=204)
    head = await header.load(request, caller, registry, owner, name)
    version, node = await paths.find(request, registry, head)
    entry = node.place.entry
    parts = [] if isinstance(entry, GroupEntry) else files.parts_of(node.path, entry)
    number = request.query_params.get("part", "1" if len(parts) == 1 else "")
    if not number.isdecimal() or not 0 < int(number[:9]) <= len(parts):
        return Redirect(head.url("files", *node.path), status_code=302)
    part = parts[int(number) - 1]
    key = await files.check_part(registry, head.view.package, part)
    if request.method == "GET":
        await files.record_download(registry.db, caller, head.view.package, version.instance, part.path)
    disposition = objects.attachment(_file_name(node, number if len(parts) > 1 else ""))
    if url := registry.store.attachment_url(key, disposition, URL_LIFETIME):
        return Redirect(url, status_code=302, headers=_HEADERS)
    assert registry.store.directory
    headers = _HEADERS | {"Content-Disposition": disposition}
    return objects.respond(request, registry.store.directory, key, part.size, headers)


def _file_name(node: Node, number: str) -> str:
    entry = node.place.entry
    assert isinstance(entry, FileEntry)
    is_table = isinstance(entry, TableEntry)
    return kinds.download_name(entry.name, kinds.source_of(entry.metadata), is_table=is_table, number=number)
