"""Decompression and decoding of request bodies within limits. Pure, so that helper processes can do it."""

from __future__ import annotations

import zlib
from typing import TypeVar

import msgspec
from msgspec import Struct

from quilt_registry.errors import Invalid, TooLarge

T = TypeVar("T")

# A manifest shrinks to a quarter, never to a hundredth, because its digests are random. A body that exceeds this ratio
# after the first megabytes is a decompression bomb.
MAX_RATIO, MIN_RATIO_SIZE = 64, 16 * 1024 * 1024
INPUT_CHUNK_SIZE, OUTPUT_CHUNK_SIZE = 256 * 1024, 2 * 1024 * 1024
MAX_MESSAGE_LENGTH = 300
BYTES_PER_ENTRY = 100  # of a manifest, at least


class Packed(Struct):
    """A request body as it was received. `json` is its content type, `limit` its maximum size after decompression."""

    data: bytes | bytearray
    gzip: bool = False
    json: bool = True
    limit: int = 1_000_000

    @property
    def size(self) -> int:
        """The size after decompression. A gzip body names it at its end, and `unpack` accepts no other."""
        return int.from_bytes(self.data[-4:], "little") if self.gzip else len(self.data)

    @property
    def weight(self) -> int:
        """The work of decoding the body, as a number of manifest entries: by what it becomes, not by what was sent."""
        return max(len(self.data), self.size) // BYTES_PER_ENTRY


def unpack(body: Packed) -> bytes | bytearray:
    """Return the decompressed body. Raise Invalid if it is not valid gzip, TooLarge if it exceeds the limit."""
    if not body.gzip:
        return body.data
    inflater = zlib.decompressobj(wbits=31)
    max_size = min(body.limit, max(MIN_RATIO_SIZE, len(body.data) * MAX_RATIO))
    data = bytearray()  # because joining chunks would take twice the memory
    view = memoryview(body.data)
    try:
        for start in range(0, len(view), INPUT_CHUNK_SIZE):
            rest: bytes | memoryview = view[start : start + INPUT_CHUNK_SIZE]
            while rest and not inflater.eof:
                data += inflater.decompress(rest, min(OUTPUT_CHUNK_SIZE, body.size + 1 - len(data)))
                rest = inflater.unconsumed_tail
                if len(data) > max_size:
                    raise TooLarge(f"The request body exceeds the limit of {max_size:,} bytes after decompression.")
                if len(data) > body.size:
                    raise Invalid(
                        "The request body is not valid gzip: its last bytes do not give its size, "
                        "so it is incomplete or there is data after its end."
                    )
            if inflater.eof and (inflater.unused_data or start + INPUT_CHUNK_SIZE < len(view)):
                raise Invalid("The request body is not valid gzip: there is data after its end.")
    except zlib.error as error:
        raise Invalid(f"The request body is not valid gzip: {error}") from None
    if not inflater.eof:
        raise Invalid("The request body is not valid gzip: it is incomplete.")
    return data


def decode(body: Packed, type: type[T] | msgspec.json.Decoder[T], max_objects: int | None = None) -> T:
    """Return a JSON body as a value of a type. Raise TooLarge, or Invalid with the place and the reason.

    `max_objects` limits its JSON objects, counted before any is built.
    """
    if not body.json:
        raise Invalid("The request body must be JSON, with the content type application/json.")
    data = unpack(body)
    if max_objects is not None and data.count(b"{") > max_objects:
        raise TooLarge(
            f"The request body has more than {max_objects:,} JSON objects. Push the package in smaller parts."
        )
    try:
        if not data.isascii():
            data.decode()  # because the decoder does not check strings that it skips
        decoder = type if isinstance(type, msgspec.json.Decoder) else msgspec.json.Decoder(type)
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise Invalid(f"The request body is not UTF-8: byte {error.start}.") from None
    except RecursionError:
        raise Invalid("The request body is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise Invalid(f"The request body is not as expected: {error}"[:MAX_MESSAGE_LENGTH]) from None
    except msgspec.DecodeError as error:
        raise Invalid(f"The request body is not valid JSON: {error}"[:MAX_MESSAGE_LENGTH]) from None
