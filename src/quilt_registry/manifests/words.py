"""Words for the search index. Texts, names and queries are split by the same rule."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from itertools import islice
from math import log
from pathlib import Path
from typing import NamedTuple

MAX_WORD_LENGTH = 255  # characters; the rest of a longer word is cut off
MAX_ENGLISH_WORDS = 80_000  # the most frequent ones; rarer ones include compounds such as landuse
UNKNOWN_COST = 1e9  # of letters that are no word, so that any words are preferred
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
        found |= dict.fromkeys([run, *(_split_english(run) if run.isascii() and run.isalpha() else [])])
    return " ".join(piece for piece in found if len(piece) > 1 or piece.isdigit())


def _split_english(run: str) -> list[str]:
    """Return the most probable sequence of English words whose letters these are."""
    words = english_words()
    cost, beginning = [0.0], [0]  # of the best sequence that ends at each place, and of its last word
    for end in range(1, len(run) + 1):
        starts = range(max(0, end - words.max_length), end)
        best = min((cost[start] + words.costs.get(run[start:end], UNKNOWN_COST), start) for start in starts)
        cost.append(best[0])
        beginning.append(best[1])
    found, end = list[str](), len(run)
    while end:
        found.append(run[beginning[end] : end])
        end = beginning[end]
    return found[::-1]


class EnglishWords(NamedTuple):
    """English words, the most frequent first, with costs that grow as they become rarer (Zipf's law)."""

    costs: dict[str, float]
    max_length: int


@cache
def english_words() -> EnglishWords:
    """Read the word list of wordsegment, which takes 9 MB and 80 ms. Helper processes do not need it.

    The package is not imported: it would load all of its words and pairs of words.
    """
    spec = find_spec("wordsegment")
    assert spec is not None
    assert spec.origin is not None
    with Path(spec.origin).with_name("unigrams.txt").open() as lines:
        words = [line.partition("\t")[0] for line in islice(lines, MAX_ENGLISH_WORDS)]
    costs = {word: log((rank + 1) * log(len(words))) for rank, word in enumerate(words)}
    return EnglishWords(costs, max(map(len, words)))
