"""Objects of a directory store, by presigned URLs that behave as those of S3 (protocol §8)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.errors import Forbidden, Invalid, NotFound
from quilt_registry.packages import uploads
from quilt_registry.registry import Registry
from quilt_registry.storage.directory import Directory, byte_range
from quilt_registry.storage.objects import ObjectStore
from quilt_registry.storage.signed_urls import LocalSigner
from quilt_registry.web.requests import AnyRequest, Injected
from quilt_registry.web.streams import ClosingStream

MEDIA_TYPE = "application/octet-stream"

# Objects hold arbitrary content and come from the registry's own host, so browsers must not run them.
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable, no-transform",
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


async def get_object(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Return an object, or a range of it, by a presigned URL."""
    directory, key = _check_signature(request, registry.store)
    size = (await registry.store.sizes([key])).get(key)
    if size is None or await _is_damaged_upload(request, registry, key, size):
        raise NotFound("There is no such object.")
    headers = {**_HEADERS, "ETag": f'"{key[-64:]}"'}
    part = byte_range(_range(request, headers["ETag"]), size) if request.method == "GET" else None
    start, stop = part or (0, size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(b"", headers=headers, media_type=MEDIA_TYPE)
    body = directory.stream(key, start, stop)
    return ClosingStream(body, status_code=206 if part else 200, headers=headers, media_type=MEDIA_TYPE)


async def _is_damaged_upload(request: AnyRequest, registry: Registry, key: str, size: int) -> bool:
    """Return whether a client that asks what to upload must upload an object again, because the file has another size.

    The upload then replaces the file.
    """
    if request.method != "HEAD" or request.query_params.get("for") != "put":
        return False
    return await uploads.find_size(registry.db, key) not in (None, size)


def _range(request: AnyRequest, etag: str) -> str | None:
    """Return the header `Range`, or None if `If-Range` makes it void (RFC 9110 §13.1.5)."""
    return request.headers.get("range") if request.headers.get("if-range", etag).strip() == etag else None


async def put_object(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Upload an object to a presigned URL, which names the SHA-256 of its contents."""
    directory, key = _check_signature(request, registry.store)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("Objects are stored as sent. Send them without Content-Encoding.")
    length = request.headers.get("content-length")
    limit = registry.settings.max_object_bytes
    await directory.receive(key, request.stream(), int(length) if length else None, limit)
    return Response(b"", media_type=MEDIA_TYPE)


def _check_signature(request: AnyRequest, store: ObjectStore) -> tuple[Directory, str]:
    """Return the directory and the key of a presigned URL. Raise Forbidden, NotFound."""
    key = request.scope["path"].removeprefix("/objects/")
    if store.directory is None or not isinstance(store.signer, LocalSigner):
        raise NotFound("There is nothing at this URL.")
    use, until, signature = (request.query_params.get(name, "") for name in ("for", "until", "signature"))
    if not store.signer.permits(request.method, key, use, until, signature):
        raise Forbidden("This URL is invalid or has expired. Request a new one from the registry.")
    store.directory.path(key)
    return store.directory, key
