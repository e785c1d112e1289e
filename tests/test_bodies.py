"""Request bodies: what is accepted, what is refused, and that neither costs much memory or time."""

from __future__ import annotations

import gzip
import json
import random
import time
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given, strategies as st

from quilt_registry import bodies
from quilt_registry.bodies import Packed
from quilt_registry.errors import Invalid, Refusal, TooLarge

MB = 1_000_000


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """An example body."""

    name: str
    numbers: list[int] = []


def gzipped(data: bytes, limit: int = 1000 * MB) -> Packed:
    return Packed(gzip.compress(data), gzip=True, limit=limit)


def refusal(body: Packed) -> Refusal:
    with pytest.raises(Refusal) as refused:
        bodies.decode(body, Order)
    assert len(refused.value.message) <= bodies.MAX_MESSAGE_LENGTH
    return refused.value


@given(st.binary(max_size=2000), st.booleans())
def test_what_was_sent_is_what_is_read(data: bytes, compressed: bool) -> None:
    body = gzipped(data) if compressed else Packed(data)
    assert bodies.unpack(body) == data


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 2 * 1024 * 1024, 5_000_000])
def test_large_gzip_bodies_come_out_whole(size: int) -> None:
    data = random.Random(1).randbytes(size)
    assert bodies.unpack(gzipped(data)) == data
    text = data.hex().encode()  # compresses to half, so a step returns more than it takes in
    assert bodies.unpack(gzipped(text)) == text


def test_a_body_is_decoded_as_what_is_expected() -> None:
    data = json.dumps({"name": "日本", "numbers": [1, 2]}).encode()
    assert bodies.decode(Packed(data), Order) == Order("日本", [1, 2])
    assert bodies.decode(gzipped(data), msgspec.json.Decoder(Order)) == Order("日本", [1, 2])


@pytest.mark.parametrize("cut", [1, 9, 10, 15, 25, -9, -8, -1])
def test_gzip_that_is_cut_off_is_refused(cut: int) -> None:
    data = gzip.compress(b'{"name": "a long enough text to cut"}')[:cut]
    refused = refusal(Packed(data, gzip=True))
    assert isinstance(refused, Invalid)
    assert "not valid gzip: it is incomplete" in refused.message


def test_an_empty_body_that_says_it_is_gzip_is_refused() -> None:
    assert "incomplete" in refusal(Packed(b"", gzip=True)).message


@pytest.mark.parametrize(
    "junk", [b"x", b"\0", b"more" * 100_000, gzip.compress(b"{}")], ids=["x", "nul", "much", "gzip"]
)
@pytest.mark.parametrize("size", [10, 400_000])  # the gzip stream ends within the first step, or beyond it
def test_anything_after_the_end_of_gzip_is_refused(junk: bytes, size: int) -> None:
    data = gzip.compress(random.Random(1).randbytes(size))
    refused = refusal(Packed(data + junk, gzip=True, limit=10 * MB))
    assert isinstance(refused, Invalid)
    assert "there is data after its end" in refused.message


@pytest.mark.parametrize("data", [b"{}", b"\x1f\x8b", b"PK\3\4" * 10, zlib.compress(b"{}"), b"\0" * 100])
def test_what_is_no_gzip_is_refused(data: bytes) -> None:
    refused = refusal(Packed(data, gzip=True))
    assert isinstance(refused, Invalid)
    assert "not valid gzip" in refused.message


def test_a_flipped_bit_in_gzip_is_seen() -> None:
    data = bytearray(gzip.compress(b'{"name":"x"}' + b" " * 1000))
    data[-6] ^= 1  # in the checksum
    assert "not valid gzip" in refusal(Packed(bytes(data), gzip=True)).message


@pytest.mark.parametrize("limit", [1000 * MB, 5 * MB])
def test_a_bomb_is_refused_quickly_and_in_little_memory(limit: int) -> None:
    """292 kilobytes that decompress to 300 megabytes."""
    deflater = zlib.compressobj(9, wbits=31)
    zeros = b"\0" * MB
    data = b"".join([deflater.compress(zeros) for _ in range(300)]) + deflater.flush()
    assert len(data) < MB
    tracemalloc.start()
    start = time.perf_counter()
    refused = refusal(Packed(data, gzip=True, limit=limit))
    took = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(refused, TooLarge)
    assert took < 2
    assert peak < 60 * MB


def test_the_limit_counts_what_comes_out() -> None:
    data = random.Random(1).randbytes(2 * MB)
    assert bodies.unpack(gzipped(data, limit=2 * MB)) == data
    with pytest.raises(TooLarge, match="1,999,999 bytes"):
        bodies.unpack(gzipped(data, limit=2 * MB - 1))


def test_a_large_manifest_is_no_bomb() -> None:
    """Digests do not compress, but names and keys do: to about a quarter."""
    make = random.Random(1)
    leaves = {f"file{i}": {"type": "FILE", "hashes": [make.randbytes(32).hex()]} for i in range(200_000)}
    data = json.dumps(leaves).encode()
    assert len(data) > bodies.MIN_RATIO_SIZE
    assert bodies.unpack(gzipped(data)) == data


@pytest.mark.parametrize("data", [b'{"name":"\xff"}', b'{"name":"a","x":"\xed\xa0\x80"}', "{'ü'}".encode("utf-16")])
def test_what_is_not_utf8_is_refused_with_its_place(data: bytes) -> None:
    refused = refusal(Packed(data))
    assert isinstance(refused, Invalid)
    assert "not UTF-8: byte" in refused.message


@pytest.mark.parametrize("data", [b"", b"{", b"nonsense", b'{"name":"x"} more', b'{"name":NaN}', b"\xef\xbb\xbf{}"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert isinstance(refusal(Packed(data)), Invalid)


def test_another_content_type_counts_as_no_json() -> None:
    assert "application/json" in refusal(Packed(b'{"name":"x"}', json=False)).message


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"name": 1}, "$.name"),
        ({"name": "x", "numbers": [1, 2, True]}, "$.numbers[2]"),
        ({"name": "x", "numbers": [1.5]}, "$.numbers[0]"),
        ({"name": None}, "$.name"),
        ({}, "`name`"),
        ({"name": "x", "more": 1}, "`more`"),
        ([], "object"),
        (None, "object"),
    ],
)
def test_what_is_not_as_expected_is_refused_with_its_place(data: object, place: str) -> None:
    assert place in refusal(Packed(json.dumps(data).encode())).message


def test_no_message_repeats_what_was_sent() -> None:
    long = "secret" * 100_000
    for data in ({long: 1}, {"name": [long]}, {"name": "x", "numbers": [long]}, long):
        refused = refusal(Packed(json.dumps(data).encode(), limit=10 * MB))
        assert len(refused.message) <= bodies.MAX_MESSAGE_LENGTH


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    for data in (b"[" * depth, b'{"name":' + b"[" * depth + b"]" * depth + b"}", b'{"a":' * depth):
        assert isinstance(refusal(Packed(data)), Invalid)
