"""Request bodies: unpacked and decoded within bounds. Pure, so that helper processes can do it."""

from __future__ import annotations

import zlib
from typing import TypeVar

import msgspec
from msgspec import Struct

from quilt_registry.errors import Invalid, TooLarge

T = TypeVar("T")

# A manifest shrinks to a quarter, never to a hundredth: its digests are random. What unpacks beyond this, after the
# first megabytes, is a bomb.
MAX_RATIO, RATIO_FROM = 64, 16 * 1024 * 1024
_STEP = 256 * 1024
MAX_MESSAGE = 300


class Packed(Struct):
    """A body as it came: whether it is gzip, whether its content type is JSON, how many bytes it may unpack to."""

    data: bytes | bytearray
    gzip: bool = False
    json: bool = True
    limit: int = 1_000_000


def unpack(body: Packed) -> bytes | bytearray:
    """The plain bytes. Raises Invalid for broken gzip, TooLarge for too much of it."""
    if not body.gzip:
        return body.data
    inflater = zlib.decompressobj(wbits=31)
    most = min(body.limit, max(RATIO_FROM, len(body.data) * MAX_RATIO))
    data = bytearray()  # pieces and their join would take twice the room
    view = memoryview(body.data)
    try:
        for start in range(0, len(view), _STEP):
            rest: bytes | memoryview = view[start : start + _STEP]
            while rest and not inflater.eof:
                data += inflater.decompress(rest, _STEP * 8)
                rest = inflater.unconsumed_tail
                if len(data) > most:
                    raise TooLarge(f"The request body unpacks to more than this registry takes ({most:,} bytes).")
            if inflater.eof and (inflater.unused_data or start + _STEP < len(view)):
                raise Invalid("The request body is not valid gzip: something follows its end.")
    except zlib.error as error:
        raise Invalid(f"The request body is not valid gzip: {error}") from None
    if not inflater.eof:
        raise Invalid("The request body is not valid gzip: it is cut off.")
    return data


def decode(body: Packed, type: type[T] | msgspec.json.Decoder[T]) -> T:
    """A body of JSON as a value of a type. Raises Invalid naming the place and the reason, TooLarge."""
    if not body.json:
        raise Invalid("The request body must be JSON, with the content type application/json.")
    data = unpack(body)
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look into texts that it passes over
        decoder = type if isinstance(type, msgspec.json.Decoder) else msgspec.json.Decoder(type)
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise Invalid(f"The request body is not UTF-8: byte {error.start}.") from None
    except RecursionError:
        raise Invalid("The request body is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise Invalid(f"The request body is not as expected: {error}"[:MAX_MESSAGE]) from None
    except msgspec.DecodeError as error:
        raise Invalid(f"The request body is not valid JSON: {error}"[:MAX_MESSAGE]) from None
