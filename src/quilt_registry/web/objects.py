"""Responses with an object of a directory store. Objects of a bucket come from the bucket."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Response

from quilt_registry.storage.directory import Directory, byte_range
from quilt_registry.web.requests import AnyRequest
from quilt_registry.web.streams import ClosingStream

MEDIA_TYPE = "application/octet-stream"

# Objects hold arbitrary content and come from the registry's own host, so browsers must not run them.
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def respond(request: AnyRequest, directory: Directory, key: str, size: int, headers: dict[str, str]) -> Response[Any]:
    """Return an object, or the range of it that a request asks for. Raise RangeNotSatisfiable."""
    headers = {**_HEADERS, **headers, "ETag": f'"{key[-64:]}"'}
    part = byte_range(_range(request, headers["ETag"]), size) if request.method == "GET" else None
    start, stop = part or (0, size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(b"", headers=headers, media_type=MEDIA_TYPE)
    body = directory.stream(key, start, stop)
    return ClosingStream(body, status_code=206 if part else 200, headers=headers, media_type=MEDIA_TYPE)


def _range(request: AnyRequest, etag: str) -> str | None:
    """Return the header `Range`, or None if `If-Range` makes it void (RFC 9110 §13.1.5)."""
    return request.headers.get("range") if request.headers.get("if-range", etag).strip() == etag else None


def attachment(file_name: str) -> str:
    """Return a header `Content-Disposition` that saves a file under a name (RFC 6266), without the path before it."""
    name = file_name.replace("\\", "/").rpartition("/")[2]
    name = "".join(each for each in name if each.isprintable()).strip(". ") or "file"
    ascii_name = name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_").replace("%", "_")
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
