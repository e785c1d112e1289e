"""Request bodies, read within limits, and responses: whole, streamed, or an error."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from litestar import Response
from msgspec import Struct

from quilt_registry import background, bodies
from quilt_registry.bodies import Packed
from quilt_registry.errors import Invalid, TooLarge
from quilt_registry.settings import Settings
from quilt_registry.web.requests import AnyRequest, accepts_gzip
from quilt_registry.web.streams import ClosingStream

T = TypeVar("T")

_compressobj: Callable[[int, int, int], Any] = zlib.compressobj
with contextlib.suppress(ImportError):  # there is no wheel for this platform
    from isal import isal_zlib

    _compressobj = isal_zlib.compressobj  # a third of the CPU time, and a smaller result

# Decoding as much takes a millisecond or two. A comment of 10,240 characters of any alphabet needs up to 123,000 bytes.
# Only a push and a list of objects need more; they pass their own limits, and helpers decode them.
MAX_BODY_BYTES = 160_000
GZIP_LEVEL, GZIP_WBITS = 1, 31
MIN_BYTES_FOR_THREAD = 16_384  # compressing less takes less time than handing it to a thread


class Status(Struct, frozen=True):
    """An error status: its `code` for programs, and its description."""

    code: str
    description: str


STATUSES = {
    400: Status("invalid", "The request breaks a rule."),
    401: Status("sign_in_needed", "Not signed in, or the token is invalid or has expired."),
    403: Status("forbidden", "The caller may not do this."),
    404: Status("not_found", "It does not exist, or the caller may not see it."),
    405: Status("method_not_allowed", "The URL does not support this method."),
    408: Status("too_slow", "The request body arrives too slowly."),
    409: Status("conflict", "The request conflicts with the current state."),
    413: Status("too_large", "The request is larger than this call accepts."),
    416: Status("range_not_satisfiable", "The range is beyond the end of the object."),
    429: Status("too_many", "Too many requests; `Retry-After` has the seconds to wait."),
    501: Status("not_offered", "This feature is switched off on this registry."),
    503: Status("unavailable", "The registry is overloaded, or a part of it does not respond. Try again in a moment."),
    507: Status("store_full", "The object store is full."),
}


class Empty(Struct):
    """An empty object."""


class ErrorResponse(Struct):
    """An error: a message for people. Calls under /api/v1 add a `code` for programs."""

    message: str
    code: str | None = None


async def read_packed(request: AnyRequest, limit: int = MAX_BODY_BYTES, unpacked_limit: int = MAX_BODY_BYTES) -> Packed:
    """Return the body as it was sent. Raise TooLarge, or Invalid for an encoding other than gzip.

    `limit` is that of the body as it was sent, `unpacked_limit` that after decompression.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise Invalid(f"Unsupported content encoding: {encoding[:40]}")
    data = await _read(request, limit)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Packed(data, encoding == "gzip", kind == "application/json", unpacked_limit)


async def _read(request: AnyRequest, limit: int) -> bytearray:
    refusal = TooLarge(f"The request body exceeds the limit of {limit:,} bytes.")
    if int(request.headers.get("content-length") or 0) > limit:
        raise refusal
    data = bytearray()  # one growing buffer, because chunks and their join would take twice the memory
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise refusal
    return data


async def read_large(request: AnyRequest, settings: Settings) -> Packed:
    """Return the body of a call that may carry a manifest. Raise TooLarge, Invalid."""
    return await read_packed(request, settings.max_body_bytes, settings.max_unpacked_bytes)


async def read(request: AnyRequest, type: type[T]) -> T:
    """Return a small JSON body as a value of a type. Raise Invalid, TooLarge."""
    return bodies.decode(await read_packed(request), type)


async def read_form(request: AnyRequest, field: str) -> str:
    """Return a field of a form. Raise Invalid if it is missing, TooLarge.

    The field is not read from the query, because URLs end up in logs.
    """
    body = bodies.unpack(await read_packed(request))
    try:
        values = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20).get(field)
    except ValueError:
        raise Invalid("The form has too many fields.") from None
    if not values:
        raise Invalid(f"The form field {field!r} is missing.")
    return values[0]


def json(value: Any) -> Response[bytes]:
    """Return a JSON response that proxies do not cache, because it is for one caller and may hold secrets."""
    headers = {"Cache-Control": "private, no-store"}
    return Response(msgspec.json.encode(value), media_type="application/json", headers=headers)


async def stream(request: AnyRequest, chunks: AsyncGenerator[bytes]) -> Response[Any]:
    """Return a JSON response that is sent while it is generated, as gzip if the client accepts it.

    Await the first chunk, so that an early failure still becomes an error response.
    """
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "private, no-store"}
    first = await anext(chunks, b"")
    rest = _chain(first, background.ahead(chunks))
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        rest = _gzip(rest)
    return ClosingStream(rest, media_type="application/json", headers=headers)


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


async def _gzip(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    deflater = _compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WBITS)
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            in_thread = len(chunk) >= MIN_BYTES_FOR_THREAD
            data = await asyncio.to_thread(deflater.compress, chunk) if in_thread else deflater.compress(chunk)
            if data:
                yield data
    yield deflater.flush()


def refusal(path: str, status: int, message: str, headers: dict[str, str] | None = None) -> Response[bytes]:
    """Return an error as JSON with a `message`, without which released clients crash; under /api/v1/ also a `code`."""
    body = {"message": message}
    if path.startswith("/api/v1/"):
        body["code"] = STATUSES[status].code if status in STATUSES else "failed"
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json", headers=headers)


def validation_errors(errors: Any) -> str:
    """Return the errors that Litestar found in the arguments of an `/api/v1` call, as sentences."""
    each = [f"{error.get('key') or 'request body'}: {error['message']}." for error in errors if "message" in error]
    return " ".join(each)[: bodies.MAX_MESSAGE_LENGTH] or "The request breaks a rule."
