"""Words for the search index. Texts, names and queries are split by the same rule."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

MAX_WORD_LENGTH = 255  # characters; the rest of a longer word is cut off
MAX_TEXT_BYTES = 100_000  # indexed of each: node names, README, metadata

_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"[^\W\d]+|\d+")
_DIGIT = re.compile(r"\d")


def split(text: str) -> list[str]:
    """Return the words of a text, case-folded: whitespace, punctuation and underscores separate them."""
    return [word[:MAX_WORD_LENGTH] for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


def distinct(text: str, max_bytes: int) -> str:
    """Return the distinct words of a text, joined by spaces, up to `max_bytes` of UTF-8."""
    return _join(dict.fromkeys(split(text)), max_bytes)


def distinct_in_names(groups: Iterable[str], leaves: Iterable[str], max_bytes: int) -> str:
    """Return the distinct words of node names, joined by spaces, up to `max_bytes` of UTF-8.

    Words of groups come before those of leaves, and among each, words without digits come first: of a million names
    such as file_000001, users search for the word.
    """
    found: dict[str, None] = {}
    for names in (groups, leaves):
        found |= dict.fromkeys(sorted(set(split("/".join(names))), key=lambda word: (bool(_DIGIT.search(word)), word)))
    return _join(found, max_bytes)


def _join(words: Iterable[str], max_bytes: int) -> str:
    data = " ".join(words).encode()
    if len(data) > max_bytes:
        data = data[: data.rfind(b" ", 0, max_bytes + 1)]
    return data.decode()


def pieces(name: str) -> str:
    """Return the pieces of a name, joined by spaces: runs of letters or of digits, and the English words in runs.

    The pieces of `landuse_24dates` are landuse, land, use, 24 and dates. Single letters are left out.
    """
    found: dict[str, None] = {}
    for run in _RUN.findall(" ".join(split(name))):
        found |= dict.fromkeys([run, *(_english()(run) if run.isascii() and run.isalpha() else [])])
    return " ".join(piece for piece in found if len(piece) > 1 or piece.isdigit())


@cache
def _english() -> Callable[[str], list[str]]:
    # Imported here because its word list takes 19 MB and 70 ms to load, which helper processes do not need.
    import wordninja  # type: ignore[import-untyped]

    return wordninja.split  # type: ignore[no-any-return]
