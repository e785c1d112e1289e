"""Reading request bodies within bounds, and writing answers: whole, in a stream, or a refusal."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from quilt_registry import bodies
from quilt_registry.bodies import Packed
from quilt_registry.errors import Invalid, TooLarge
from quilt_registry.settings import Settings
from quilt_registry.web.requests import AnyRequest

T = TypeVar("T")


class Status(Struct, frozen=True):
    """What a status of a refusal means: a `code` for programs, and a description."""

    code: str
    description: str


STATUSES = {
    400: Status("invalid", "The request breaks a rule."),
    401: Status("sign_in_needed", "Not signed in, or the token is invalid or has expired."),
    403: Status("forbidden", "The caller may not do this."),
    404: Status("not_found", "It does not exist, or the caller may not see it."),
    405: Status("method_not_allowed", "The URL does not support this method."),
    409: Status("conflict", "The request conflicts with the current state."),
    413: Status("too_large", "The request is larger than this call accepts."),
    416: Status("range_not_satisfiable", "The range is beyond the end of the object."),
    429: Status("too_many", "Too many requests; `Retry-After` has the seconds to wait."),
    501: Status("not_offered", "This registry has switched this off."),
    503: Status("unavailable", "The database or the object store does not respond. Retry in a moment."),
    507: Status("store_full", "The object store is full."),
}


class Empty(Struct):
    """An empty object."""


class Refusal(Struct):
    """Why the request was refused, in a sentence. Calls under /api/v1 add a `code` for programs."""

    message: str
    code: str | None = None


SMALL = 1_000_000  # bytes; more than any call but a push or a list of objects needs


async def read_packed(request: AnyRequest, plain_limit: int = SMALL, unpacked_limit: int = SMALL) -> Packed:
    """The body as it came. Raises TooLarge, and Invalid for an encoding other than gzip."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise Invalid(f"Unsupported content encoding: {encoding[:40]}")
    limit = unpacked_limit if encoding == "gzip" else plain_limit
    data = await _read(request, limit)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Packed(data, encoding == "gzip", kind == "application/json", unpacked_limit)


async def _read(request: AnyRequest, limit: int) -> bytearray:
    refusal = TooLarge(f"The request body is larger than this call takes ({limit:,} bytes).")
    if int(request.headers.get("content-length") or 0) > limit:
        raise refusal
    data = bytearray()  # one growing buffer: pieces and their join would take twice the room
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise refusal
    return data


async def read_large(request: AnyRequest, settings: Settings) -> Packed:
    """The body of a call that may carry a manifest."""
    return await read_packed(request, settings.max_body_bytes, settings.max_unpacked_bytes)


async def read(request: AnyRequest, type: type[T]) -> T:
    """A small body as a value of a type. Raises Invalid, TooLarge."""
    return bodies.decode(await read_packed(request), type)


async def read_form(request: AnyRequest, field: str) -> str:
    """A field of a form, from the body only: addresses end up in logs. Raises Invalid if it is missing."""
    body = bodies.unpack(await read_packed(request))
    try:
        values = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20).get(field)
    except ValueError:
        raise Invalid("The form has more fields than any call takes.") from None
    if not values:
        raise Invalid(f"The form field {field!r} is missing.")
    return values[0]


def json(value: Any) -> Response[bytes]:
    """An answer in JSON. Nobody on the way keeps it: it may be a secret, and is for one caller only."""
    headers = {"Cache-Control": "private, no-store"}
    return Response(msgspec.json.encode(value), media_type="application/json", headers=headers)


async def stream(request: AnyRequest, chunks: AsyncIterator[bytes]) -> Response[Any]:
    """An answer in JSON that is sent while it is made, gzipped if the client takes that.

    The first piece is waited for, so that what fails early still becomes a refusal.
    """
    headers = {"Vary": "Accept-Encoding"}
    first = await anext(chunks, b"")
    rest = _chain(first, chunks)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        rest = _gzip(rest)
    return Stream(rest, media_type="application/json", headers=headers)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _gzip(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    deflater = zlib.compressobj(1, wbits=31)
    async for chunk in chunks:
        small = len(chunk) < 16_384  # not worth a thread
        data = deflater.compress(chunk) if small else await asyncio.to_thread(deflater.compress, chunk)
        if data:
            yield data
    yield deflater.flush()


def refusal(path: str, status: int, message: str, headers: dict[str, str] | None = None) -> Response[bytes]:
    """How the wire says no: JSON with `message`, without which old clients crash. Under /api/v1/ also a `code`."""
    body = {"message": message}
    if path.startswith("/api/v1/"):
        body["code"] = STATUSES[status].code if status in STATUSES else "failed"
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json", headers=headers)


def validation_errors(errors: Any) -> str:
    """Return what Litestar found wrong with the arguments of a `/api/v1` call, as sentences."""
    each = [f"{error.get('key') or 'request body'}: {error['message']}." for error in errors if "message" in error]
    return " ".join(each)[: bodies.MAX_MESSAGE] or "The request breaks a rule."
