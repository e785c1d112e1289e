"""The files of a version: the page of a folder, the page of a file, and the search in their paths."""

from __future__ import annotations

import json
import re
from typing import Any

from litestar import Response
from litestar.params import FromPath
from markupsafe import Markup
from msgspec import Struct

from quilt_registry.catalog import commands
from quilt_registry.catalog.package import document, header, paths
from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.session import is_fragment
from quilt_registry.errors import Invalid, TooMany, Unavailable
from quilt_registry.manifests.pages import FileEntry, GroupEntry, TableEntry
from quilt_registry.packages import file_previews, files
from quilt_registry.packages.access import Caller
from quilt_registry.packages.file_previews import Preview
from quilt_registry.packages.files import Node, ObjectPart, SortKey
from quilt_registry.packages.resolve import Version
from quilt_registry.previews import kinds
from quilt_registry.previews.images import UnreadableError
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative

MAX_RAW_BYTES = 1_000_000
MAX_README_BYTES = 640 * 1024
MAX_FIND_LENGTH = 255
SORT_KEYS: dict[str, SortKey] = {"name": "name", "size": "size", "kind": "kind"}


class _File(Struct, frozen=True):
    """What a file's page says about its node."""

    name: str
    path: list[str]
    kind: str
    size: int
    source: kinds.Source
    parts: list[ObjectPart]
    metadata: list[tuple[str, str]]


async def page(
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show what is at a path of a version."""
    head = await header.load(request, caller, registry, owner, name)
    if head.view.version is None:
        return await header.render(request, "package/files.html", head, path=[], folder=None)
    if text := request.query_params.get("find", "").strip()[:MAX_FIND_LENGTH]:
        return await _find(request, registry, head, head.view.version, text)
    version, node = await paths.find(request, registry, head)
    if isinstance(node.place.entry, GroupEntry):
        return await _folder(request, registry, head, node)
    return await _file(request, registry, head, version, node)


# ------------------------------------------------------------------------------------------------ folders


async def _folder(request: AnyRequest, registry: Registry, head: Header, node: Node) -> Response[Any]:
    sort = request.query_params.get("sort", "")
    cursor = request.query_params.get("cursor", "")
    folder = await files.list_folder(node, SORT_KEYS.get(sort, "name"), _number(cursor))
    values: dict[str, Any] = {"path": node.path, "folder": folder, "group": node.group}
    if is_fragment(request):
        template = "package/files_rows.html" if cursor else "package/files_nested.html"
        response = await header.render(request, template, head, **values)
        response.headers["Vary"] = "HX-Request"
        return response
    readme = await _render(registry, head, folder.readme, node.path) if folder.readme else None
    install = commands.install(registry.settings, head.subject(node.path))
    return await header.render(request, "package/files.html", head, readme=readme, install=install, **values)


async def _render(registry: Registry, head: Header, part: ObjectPart, folder: list[str]) -> Markup | None:
    """Return a Markdown file in a folder as HTML, None if it is not text or not in the store."""
    try:
        text = await file_previews.read_text(registry, head.view.package, part, MAX_README_BYTES)
    except Unavailable:
        return None
    return await document.render(registry, head, text, folder) if text is not None else None


async def _find(request: AnyRequest, registry: Registry, head: Header, version: Version, text: str) -> Response[Any]:
    found = await files.find(registry.db, registry.offload, version.instance, text)
    rows = [(_mark("/".join(each.path), text), each) for each in found.paths]
    return await header.render(request, "package/find.html", head, text=text, rows=rows, total=found.total)


def _mark(path: str, text: str) -> list[tuple[str, bool]]:
    """Return the pieces of a path, each with whether it is the text that was searched for."""
    pieces = re.split(f"({re.escape(text)})", path, flags=re.IGNORECASE)
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]


def _number(text: str) -> int | None:
    """Return the number in a query; None for anything else, which counts as absent."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


# ------------------------------------------------------------------------------------------------ files


async def _file(request: AnyRequest, registry: Registry, head: Header, version: Version, node: Node) -> Response[Any]:
    package, view = head.view.package, request.query_params.get("view", "")
    file = await _describe(registry, head, node)
    await _record(request, registry, head, version, file)
    if view == "image" and file.parts:
        return await _image(registry, head, file)
    if view == "raw" and file.parts and file.size <= MAX_RAW_BYTES:
        text = await file_previews.read_text(registry, package, file.parts[0], MAX_RAW_BYTES)
        if text is not None:
            return Response(text, media_type="text/plain")
    rendered = None
    if file.kind == "markdown" and view != "source" and len(file.parts) == 1:
        rendered = await _render(registry, head, file.parts[0], file.path[:-1])
    number = max(_number(request.query_params.get("page", "")) or 1, 1)
    preview = Preview(file.kind) if rendered is not None else await _preview(registry, head, file, number)
    lines = [Markup(line) for line in preview.text.lines] if preview.text else []  # noqa: S704  HTML of previews/text.py
    return await header.render(
        request, "package/file.html", head,
        file=file, path=file.path, document=rendered, preview=preview, lines=lines, number=number, view=view,
        has_raw=(rendered or preview.text) is not None and file.size <= MAX_RAW_BYTES,
        install=commands.install(registry.settings, head.subject(file.path)),
        open=commands.open_node(registry.settings, head.view.package.owner, head.view.package.name, file.path),
    )  # fmt: skip


async def _describe(registry: Registry, head: Header, node: Node) -> _File:
    entry = node.place.entry
    assert isinstance(entry, FileEntry)
    source = kinds.source_of(entry.metadata)
    kind = kinds.by_name(entry.name, source, is_table=isinstance(entry, TableEntry))
    metadata = await files.read_metadata(registry, head.view.package, node)
    parts = files.parts_of(node.path, entry)
    return _File(entry.name, node.path, kind, sum(entry.sizes), source, parts, _pairs(metadata))


def _pairs(metadata: Any) -> list[tuple[str, str]]:
    """Return user metadata as names and values."""
    if not isinstance(metadata, dict):
        return []
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in metadata.items()
    ]


async def _record(request: AnyRequest, registry: Registry, head: Header, version: Version, file: _File) -> None:
    """Record that the reader sees a file. The pictures of a page belong to the page."""
    if is_speculative(request) or is_fragment(request) or request.headers.get("sec-fetch-dest") == "image":
        return
    await files.record_view(registry.db, head.caller, head.view.package, version.instance, "/".join(file.path))


async def _preview(registry: Registry, head: Header, file: _File, number: int) -> Preview:
    if not file.size:
        return Preview(file.kind)
    name = file.source.name or file.name
    try:
        return await file_previews.preview(registry, head.view.package, file.parts[0], name, file.kind, number)
    except TooMany as error:
        return Preview(file.kind, problem=error.message)


async def _image(registry: Registry, head: Header, file: _File) -> Response[Any]:
    """Return the picture of a file, which READMEs also show."""
    try:
        picture = await file_previews.draw(registry, head.view.package, file.parts[0])
    except UnreadableError as error:
        raise Invalid(str(error)) from None
    return Response(picture.data, media_type=picture.media_type)
