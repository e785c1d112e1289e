"""Characters that a reader cannot see, made visible."""

from __future__ import annotations

import re

# What a reader cannot see, or what makes text look like other text: controls but tab and line ends, soft hyphens,
# zero-width characters, marks and overrides of the writing direction, half surrogates, byte order marks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return a text with its invisible characters replaced by their code points."""
    return _INVISIBLE.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def visible_html(html: str) -> str:
    """Return HTML with the invisible characters of its text replaced by their code points."""
    return _INVISIBLE.sub(lambda found: f"&lt;U+{ord(found[0]):04X}&gt;", html)
