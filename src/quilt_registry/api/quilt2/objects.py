"""Objects in a directory over signed URLs: what released clients demand of S3 (protocol §8)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Stream

from quilt_registry.errors import Forbidden, Invalid, NotFound
from quilt_registry.registry import Registry
from quilt_registry.storage.directory import Directory, byte_range
from quilt_registry.storage.objects import ObjectStore
from quilt_registry.storage.signed_urls import LocalSigner
from quilt_registry.web.requests import AnyRequest, Injected

# Objects are whatever people pushed, and come from the registry's own host: browsers must not run them.
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def _permitted(request: AnyRequest, store: ObjectStore) -> tuple[Directory, str]:
    """The directory and the key that a signed URL opens. Raises Forbidden, NotFound."""
    key = request.scope["path"].removeprefix("/objects/")
    if store.directory is None or not isinstance(store.signer, LocalSigner):
        raise NotFound("There is nothing at this address.")
    use, until, signature = (request.query_params.get(name, "") for name in ("for", "until", "signature"))
    if not store.signer.permits(request.method, key, use, until, signature):
        raise Forbidden("This URL is not valid, or no longer. Ask the registry for a new one.")
    store.directory.path(key)
    return store.directory, key


async def get(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """An object, whole or a range of it, by a signed URL."""
    directory, key = _permitted(request, registry.store)
    sizes = await registry.store.sizes([key])
    if key not in sizes:
        raise NotFound("There is no such object.")
    size = sizes[key]
    headers = {**_HEADERS, "ETag": f'"{key[-64:]}"'}
    part = byte_range(request.headers.get("range"), size) if request.method == "GET" else None
    start, stop = part or (0, size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    media_type = "application/octet-stream"
    if request.method == "HEAD":
        return Response(b"", headers=headers, media_type=media_type)
    body = directory.stream(key, start, stop)
    return Stream(body, status_code=206 if part else 200, headers=headers, media_type=media_type)


async def put(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Send an object to a signed URL. Its SHA-256 must be its name."""
    directory, key = _permitted(request, registry.store)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("Objects are stored as they are: send them without Content-Encoding.")
    length = request.headers.get("content-length")
    await directory.receive(key, request.stream(), int(length) if length else None)
    return Response(b"", media_type="application/octet-stream")
