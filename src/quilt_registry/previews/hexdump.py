"""The first bytes of a file that has no other preview."""

from __future__ import annotations

from msgspec import Struct

MAX_BYTES = 256
BYTES_PER_LINE = 16


class HexLine(Struct, frozen=True):
    """Some bytes: their offset, as hexadecimal digits, and as text with a dot for what is not ASCII."""

    offset: str
    hex: str
    text: str


def render(data: bytes) -> list[HexLine]:
    """Return the lines for the beginning of a file."""
    lines = []
    for offset in range(0, min(len(data), MAX_BYTES), BYTES_PER_LINE):
        piece = data[offset : min(offset + BYTES_PER_LINE, MAX_BYTES)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(HexLine(f"{offset:04x}", piece.hex(" "), text))
    return lines
