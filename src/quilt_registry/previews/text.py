"""Text and code: decoding, and lines of HTML with colours."""

from __future__ import annotations

import codecs
import html

from msgspec import Struct
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

from quilt_registry.previews.time_limit import time_limit
from quilt_registry.previews.visible import visible_html

MAX_BYTES = 512_000  # of a text that is shown
LINES_PER_PAGE = 5000
MAX_SECONDS = 2  # for colours; a text that needs more is shown without

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TextPage(Struct, frozen=True):
    """A page of a text: lines of HTML, the number of the first, and how many lines and pages there are.

    `language` is "" for text without colours.
    """

    lines: list[str]
    first: int
    total: int
    pages: int
    encoding: str
    language: str


def decode(data: bytes) -> tuple[str, str] | None:
    """Return a text and the name of its encoding, or None for binary data. A character that was cut off is left out."""
    if data.startswith(_UTF16):
        return data[: len(data) // 2 * 2].decode("utf-16", "replace"), "UTF-16"
    if b"\0" in data:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data), "UTF-8"
    except UnicodeDecodeError:
        return None if _is_binary(data) else (data.decode("cp1252", "replace"), "Windows-1252 (guessed)")


def _is_binary(data: bytes) -> bool:
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in data[:4096])
    return controls > len(data[:4096]) // 50


def render(data: bytes, name: str, page: int) -> TextPage | None:
    """Return a page of a text or code, coloured by the name of the file. Return None for binary data."""
    decoded = decode(data)
    if decoded is None:
        return None
    text, encoding = decoded
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    first = (page - 1) * LINES_PER_PAGE
    shown = lines[first : first + LINES_PER_PAGE]
    lexer = _find_lexer(name)
    pages = -(-len(lines) // LINES_PER_PAGE)
    coloured = _colour(shown, lexer) if lexer and shown else None
    language = lexer.name if lexer and coloured else ""
    rendered = [visible_html(line) for line in coloured or map(html.escape, shown)]
    return TextPage(rendered, first + 1, len(lines), pages, encoding, language)


def _find_lexer(name: str) -> Lexer | None:
    try:
        lexer: Lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return None if lexer.name == "Text only" else lexer


def _colour(lines: list[str], lexer: Lexer) -> list[str] | None:
    """Return lines of HTML with the short class names of Pygments, or None if that takes too long."""
    try:
        with time_limit(MAX_SECONDS):
            coloured: list[str] = highlight("\n".join(lines), lexer, HtmlFormatter(nowrap=True)).split("\n")
    except TimeoutError:
        return None
    return coloured[: len(lines)]
