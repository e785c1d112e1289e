"""Objects of a directory store, by presigned URLs that behave as those of S3 (protocol §8)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.errors import Forbidden, Invalid, NotFound
from quilt_registry.packages import uploads
from quilt_registry.registry import Registry
from quilt_registry.storage.directory import Directory
from quilt_registry.storage.objects import ObjectStore
from quilt_registry.storage.signed_urls import LocalSigner
from quilt_registry.web import objects
from quilt_registry.web.requests import AnyRequest, Injected

_CACHING = {"Cache-Control": "private, max-age=31536000, immutable, no-transform"}


async def get_object(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Return an object, or a range of it, by a presigned URL."""
    directory, key = _check_signature(request, registry.store)
    size = (await registry.store.sizes([key])).get(key)
    if size is None or await _is_damaged_upload(request, registry, key, size):
        raise NotFound("There is no such object.")
    return objects.respond(request, directory, key, size, _CACHING)


async def _is_damaged_upload(request: AnyRequest, registry: Registry, key: str, size: int) -> bool:
    """Return whether a client that asks what to upload must upload an object again, because the file has another size.

    The upload then replaces the file.
    """
    if request.method != "HEAD" or request.query_params.get("for") != "put":
        return False
    return await uploads.find_size(registry.db, key) not in (None, size)


async def put_object(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Upload an object to a presigned URL, which names the SHA-256 of its contents."""
    directory, key = _check_signature(request, registry.store)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("Objects are stored as sent. Send them without Content-Encoding.")
    length = request.headers.get("content-length")
    limit = registry.settings.max_object_bytes
    await directory.receive(key, request.stream(), int(length) if length else None, limit)
    return Response(b"", media_type=objects.MEDIA_TYPE)


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
