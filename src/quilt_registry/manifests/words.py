"""Words as search knows them. Texts, names and queries are all read by the same rule. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

LONGEST = 255  # characters of a word that count

_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"[^\W\d]+|\d+")
_DIGIT = re.compile(r"\d")


def of(text: str) -> list[str]:
    """The words of a text without regard to case: what stands between blanks, punctuation and underscores."""
    return [word[:LONGEST] for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


def distinct(text: str, most: int) -> str:
    """The distinct words of a text with blanks between, as many of the first as fit in `most` bytes of UTF-8."""
    return _first(dict.fromkeys(of(text)), most)


def of_nodes(groups: Iterable[str], leaves: Iterable[str], most: int) -> str:
    """The distinct words of node names, likewise.

    First those of groups, then those of leaves, and both times words of letters before words with digits in them: of
    a million files named file_000001 and so on it is the word that people look for.
    """
    found: dict[str, None] = {}
    for names in (groups, leaves):
        found |= dict.fromkeys(sorted(set(of("/".join(names))), key=lambda word: (bool(_DIGIT.search(word)), word)))
    return _first(found, most)


def _first(words: Iterable[str], most: int) -> str:
    data = " ".join(words).encode()
    if len(data) > most:
        data = data[: data.rfind(b" ", 0, most + 1)]
    return data.decode()


def pieces(name: str) -> str:
    """What a name is put together from, with blanks between: runs of letters or of digits, English words in runs.

    `landuse_24dates` has landuse, land, use, 24 and dates. Single letters are left out.
    """
    found: dict[str, None] = {}
    for run in _RUN.findall(" ".join(of(name))):
        found |= dict.fromkeys([run, *(_english()(run) if run.isascii() and run.isalpha() else [])])
    return " ".join(piece for piece in found if len(piece) > 1 or piece.isdigit())


@cache
def _english() -> Callable[[str], list[str]]:
    """Splits a run of letters into words.

    The word list takes 19 MB and 70 ms to load: only processes that index need to have it, not their helpers.
    """
    import wordninja  # type: ignore[import-untyped]

    return wordninja.split  # type: ignore[no-any-return]
