"""How numbers, times and other people's text look on pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from quilt_registry.previews import visible as invisible

THIN_SPACE = "\u2009"
SHORT_HASH = 8  # characters

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def visible(value: Any) -> Any:
    """Return text with its invisible characters replaced by their code points. Other values stay as they are."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return invisible.visible(value)
    return value


def as_typed(value: str) -> Markup:
    """Return text for a field of a form, with invisible characters as they were sent."""
    return escape(value.encode("utf-8", "replace").decode())


def count(number: int, singular: str = "", plural: str = "") -> str:
    """Format a number of things, with the word for them: `1 204 files`."""
    digits = f"{number:,}".replace(",", THIN_SPACE)
    word = singular if number == 1 else plural or (singular and singular + "s")
    return f"{digits}\N{NO-BREAK SPACE}{word}" if word else digits


def size(size: float) -> str:
    """Format a number of bytes, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 if unit == "B" else size < 999.95:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB".replace(",", THIN_SPACE)


def utc(time: datetime) -> str:
    """Format a time to the minute."""
    return time.astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC")


def second(time: datetime) -> str:
    """Format a time to the second, for columns of times in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def day(time: datetime) -> str:
    """Format a date."""
    return time.astimezone(UTC).strftime("%-d %B %Y")


def relative(time: datetime, now: datetime | None = None) -> str:
    """Format how long ago a time is; the date if that is more than a month."""
    seconds = ((now or datetime.now(UTC)) - time).total_seconds()
    if seconds < _MINUTE:
        return "just now" if seconds > -_MINUTE else day(time)
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h ago"
    if seconds < 31 * _DAY:
        days = int(seconds // _DAY)
        return "yesterday" if days == 1 else f"{days} days ago"
    return day(time)


def short(top_hash: bytes | str) -> str:
    """Return the first characters of a hash."""
    text = top_hash.hex() if isinstance(top_hash, bytes) else top_hash
    return text[:SHORT_HASH]


# Marks of Markdown, and what stands in their place. No pattern looks further than the next mark of its kind, because
# a hostile README must not take long.
_MARKS = [
    (re.compile(r"^[ \t]*(```|~~~).*$|^[ \t|:=*_-]+$", re.MULTILINE), ""),  # fences of code, rules, borders of tables
    (re.compile(r"!\[[^\[\]]*\]\([^()]*\)|</?[A-Za-z!][^<>]*>"), ""),  # images, HTML
    (re.compile(r"\[([^\[\]]*)\](\([^()]*\)|\[[^\[\]]*\])"), r"\1"),  # links
    (re.compile(r"^[ \t]*([-*+]|\d+[.)]|>)[ \t]+(\[[ xX]\][ \t]+)?", re.MULTILINE), ""),  # items, tasks, quotations
    (re.compile(r"\*{1,3}|`+|~~|(?<!\w)_{1,2}|_{1,2}(?!\w)"), ""),  # emphasis, code
    (re.compile(r"\|"), " "),  # cells
]
_HEADING = re.compile(r"^#{1,6}[ \t]+([^\n]*)$", re.MULTILINE)
MAX_PLAIN_LENGTH = 2000  # characters of Markdown that are made plain


def plain_text(markdown: str) -> str:
    """Return the words of a README in one line, without marks of Markdown. A dot stands after a heading."""
    text = markdown[:MAX_PLAIN_LENGTH]
    for marks, replacement in _MARKS:
        text = marks.sub(replacement, text)
    text = _HEADING.sub(lambda found: found[1].rstrip("# ") + " ·", text)
    return " ".join(text.split()).removesuffix(" ·")


def first_sentence(text: str, length: int = 160) -> str:
    """Return the first sentence of a README's prose without marks of Markdown, cut at `length`.

    Headings are left out, unless there is nothing else.
    """
    lines = (line.strip() for line in text[:MAX_PLAIN_LENGTH].splitlines())
    prose: list[str] = []
    for line in lines:
        if line.startswith(("#", "```", "---", "===", "|", "!", "<", "[!")):
            if prose:
                break
            continue
        if line:
            prose.append(line)
        elif prose:
            break
    sentence = re.split(r"(?<=[.!?])\s", plain_text(" ".join(prose) or text), maxsplit=1)[0]
    return sentence if len(sentence) <= length else sentence[: length - 1].rstrip() + "…"
