# ruff: noqa: ARG001, ARG002  functions have the arguments that markdown-it passes
"""Markdown as HTML that pages can contain: READMEs, Markdown files, comments.

`draft` renders a text. Its links and images of the package's own files stay as they were written, because only the
database knows which files exist. `finish` leads them to their pages. Both sanitize what they return by the same list of
allowed tags and attributes; nothing else in the catalog marks text of users as safe.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, MutableMapping, Sequence
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import escape
from msgspec import Struct
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from quilt_registry.previews.time_limit import time_limit

MAX_LENGTH = 640 * 1024  # characters of a text; the rest is left out
MAX_NESTING = 64
MAX_SECONDS = 2.0
MAX_TARGETS = 200  # different files that a text can link to
MAX_COLORED = 50_000  # characters of a block of code; a longer one has no colors
ID_PREFIX = "readme-"  # of headings, so that no ID of the page is taken

# What a README may contain as HTML, with its attributes. The contents of other tags stay.
HTML_TAGS: dict[str, set[str]] = {
    **{tag: set() for tag in ("br", "details", "div", "kbd", "p", "sub", "summary", "sup")},
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "width", "height"},
}
NO_TEXT = {"script", "style", "title", "template", "iframe", "object", "noscript", "textarea", "svg", "math"}


class Draft(Struct):
    """A rendered text, and the files that it links to, as relative URLs."""

    html: str
    targets: list[str]


def draft(text: str) -> Draft:
    """Render a README or a Markdown file. A text that takes too long is shown as it is."""
    env: dict[str, Any] = {"targets": {}, "slugs": set(), "open_links": 0}
    return Draft(_render(_README, text[:MAX_LENGTH], env), list(env["targets"]))


def comments(texts: Sequence[str]) -> list[str]:
    """Render comments, which have no HTML, and images only as text."""
    return [_render(_COMMENT, text[:MAX_LENGTH], {"open_links": 0}) for text in texts]


def finish(html: str, pages: Mapping[str, str], images: Mapping[str, str]) -> str:
    """Return the HTML of a draft with the links and images of its targets.

    Both map a target to a path of this site. A link without one becomes text, and so does an image.
    """

    def link(found: re.Match[str]) -> str:
        target = unescape(found[2])
        if not is_relative(target):
            return str(found[0])
        path = pages.get(target)
        return f'<a{found[1]} href="{escape(path)}"' if path else f"<a{found[1]}"

    def image(found: re.Match[str]) -> str:
        attributes = dict(_WRITTEN.findall(found[1]))
        path = images.get(unescape(attributes.get("src", "")))
        if path is None:
            return escape(unescape(attributes.get("alt", "")))
        return f'<img{found[1].replace(_src(attributes["src"]), _src(escape(path)))} loading="lazy">'

    html = _IMAGE.sub(image, _LINK.sub(link, html))
    return _sanitize(html, {*pages.values(), *images.values()})


def is_relative(target: str) -> bool:
    """Return whether a link is to a file of the package."""
    return bool(target) and not target.startswith(("#", "//")) and "\\" not in target and not _SCHEME.match(target)


_SCHEME = re.compile(r"[^/?#]*:")
_ELSEWHERE = re.compile("(?:https?|mailto):", re.IGNORECASE)
# As nh3 writes them: attributes in quotes, none of which are in their values.
_LINK = re.compile(r'<a((?: (?!href)[a-z-]+="[^"]*")*) href="([^"]*)"')
_IMAGE = re.compile(r'<img((?: [a-z-]+="[^"]*")*)>')
_WRITTEN = re.compile(r' ([a-z-]+)="([^"]*)"')


def _src(value: str) -> str:
    return f' src="{value}"'


# ------------------------------------------------------------------------------------------------ sanitizer

_HEADINGS = ("h2", "h3", "h4", "h5", "h6")
_TAGS = {
    *HTML_TAGS, *_HEADINGS, "blockquote", "code", "em", "hr", "li", "ol", "pre", "s", "span", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {
    **{tag: names for tag, names in HTML_TAGS.items() if names},
    **{heading: {"id"} for heading in _HEADINGS},
    "div": {"aria-label", "role", "tabindex"},
    "img": HTML_TAGS["img"] | {"loading"},
    "ol": {"start"},
    "pre": {"tabindex"},
    "th": {"scope"},
}
_ALIGNED = {"number", "center"}
_CLASSES = {
    "div": {"snippet", "region"},
    "li": {"task"},
    "span": set(STANDARD_TYPES.values()),
    "td": _ALIGNED,
    "th": _ALIGNED,
}
_REL = "nofollow ugc noopener noreferrer"


def _sanitize(html: str, paths: set[str] | None = None) -> str:
    """Return HTML with nothing but what is allowed. `paths` are those of this site that it may lead to; None: any."""

    def check(tag: str, name: str, value: str) -> str | None:
        if name == "id" and not value.startswith(ID_PREFIX):
            return None
        if (tag, name) == ("a", "href") and (value.startswith("#") or _ELSEWHERE.match(value)):
            return value
        if (tag, name) in (("a", "href"), ("img", "src")):
            return value if is_relative(value) and (paths is None or value in paths) else None
        return value

    return nh3.clean(
        html,
        tags=_TAGS,
        clean_content_tags=NO_TEXT - _TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=check,
        allowed_classes=_CLASSES,
        url_schemes={"http", "https", "mailto"},
        link_rel=_REL,
    )


# ------------------------------------------------------------------------------------------------ renderer


class _Renderer(RendererHTML):
    """The renderer of Markdown, with the package's own form of some elements."""

    def fence(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        language = tokens[index].info.split(maxsplit=1)[:1]
        return _code_block(tokens[index].content, *language)

    def code_block(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return _code_block(tokens[index].content)

    def html_inline(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return _allowed_html(tokens[index].content, env)

    def html_block(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return _allowed_html(tokens[index].content, env)

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        token = tokens[index]
        return _link(str(token.attrGet("href") or ""), str(token.attrGet("title") or ""), env)

    def link_close(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        env["open_links"] -= 1
        return "</a>"

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        token = tokens[index]
        alt = self.renderInlineAsText(token.children or [], options, env)
        return _image({"src": str(token.attrGet("src") or ""), "alt": alt}, env)

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        env["tables"] = env.get("tables", 0) + 1
        return f'<div class="region" role="region" tabindex="0" aria-label="Table {env["tables"]}">\n<table>\n'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "</table>\n</div>\n"


def _code_block(text: str, language: str = "") -> str:
    html = _color(text, language) if language and len(text) <= MAX_COLORED else escape(text)
    return f'<div class="snippet"><pre tabindex="0"><code>{html}</code></pre></div>\n'


def _color(text: str, language: str) -> str:
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(text)
    html: str = highlight(text, lexer, HtmlFormatter(nowrap=True))
    return html


def _link(href: str, title: str, env: MutableMapping[str, Any]) -> str:
    env["open_links"] += 1
    if href.startswith("#"):
        href = f"#{ID_PREFIX}{href[1:].lower()}"
    elif not _ELSEWHERE.match(href) and not (is_relative(href) and _is_target(href, env)):
        href = ""
    return f"<a{_attributes({'href': href, 'title': title})}>"


def _image(attributes: dict[str, str], env: MutableMapping[str, Any]) -> str:
    """Return an image of the package. One of another site becomes a link, so that it cannot track readers."""
    src, alt = attributes.get("src", ""), attributes.get("alt", "")
    if is_relative(src) and _is_target(src, env):
        return f"<img{_attributes(attributes)}>"
    host = _host(src) if "targets" in env else ""
    text = escape(f"image: {alt}" if alt else "image")
    if not host:
        return text
    text += escape(f" ({host})")
    return text if env["open_links"] else f"<a{_attributes({'href': src})}>{text}</a>"


def _host(url: str) -> str:
    """Return the host of a URL of another site; "" for any other URL."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


def _attributes(values: Mapping[str, str]) -> str:
    return "".join([f' {name}="{escape(value)}"' for name, value in values.items() if value or name == "alt"])


def _is_target(url: str, env: MutableMapping[str, Any]) -> bool:
    """Return whether a file of the package is one of those that the text may link to."""
    targets = env.get("targets")
    if targets is None or (url not in targets and len(targets) >= MAX_TARGETS):
        return False
    targets[url] = True
    return True


# A comment, or a tag with its attributes.
_TAG = re.compile(r"""<!--.*?(?:-->|\Z)|<(/?)([a-zA-Z][a-zA-Z0-9-]*)((?:[^>"']++|"[^"]*+"|'[^']*+')*+)>""", re.DOTALL)
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")


def _allowed_html(html: str, env: MutableMapping[str, Any]) -> str:
    """Return a piece of HTML with only those tags and attributes that a README may have."""
    parts, end, hidden = [], 0, ""
    for found in _TAG.finditer(html):
        parts.append("" if hidden else html[end : found.start()].replace("<", "&lt;"))
        end = found.end()
        is_end, tag = bool(found[1]), (found[2] or "").lower()
        if hidden or tag in NO_TEXT:
            hidden = "" if is_end and tag == hidden else hidden or (tag if not is_end else "")
        elif tag in HTML_TAGS:
            parts.append(_end_tag(tag, env) if is_end else _start_tag(tag, found[3], env))
    parts.append("" if hidden else html[end:].replace("<", "&lt;"))
    return "".join(parts)


def _start_tag(tag: str, written: str, env: MutableMapping[str, Any]) -> str:
    values = {name.lower(): unescape(a or b or c) for name, a, b, c in _ATTRIBUTE.findall(written)}
    allowed = {name: value for name, value in values.items() if name in HTML_TAGS[tag]}
    if tag == "a":
        return _link(allowed.get("href", ""), allowed.get("title", ""), env)
    if tag == "img":
        return _image(allowed, env)
    return f"<{tag}{_attributes(allowed)}>"


def _end_tag(tag: str, env: MutableMapping[str, Any]) -> str:
    if tag == "a":
        env["open_links"] = max(env["open_links"] - 1, 0)
    return f"</{tag}>"


# ------------------------------------------------------------------------------------------------ parser

_TASK = re.compile(r"\[([ xX])\] +")


def _arrange(state: StateCore) -> None:
    """Put headings one level down and give them IDs, mark tasks, and turn styles of cells into classes."""
    for index, token in enumerate(state.tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        if token.type == "heading_open" and "slugs" in state.env:
            token.attrSet("id", ID_PREFIX + _slug(state.tokens[index + 1], state.env["slugs"]))
        elif token.type in ("th_open", "td_open"):
            _align(token)
        elif token.type == "inline" and index > 1 and state.tokens[index - 2].type == "list_item_open":
            _mark_task(state.tokens[index - 2], token)


def _slug(inline: Token, taken: set[str]) -> str:
    """Return the ID of a heading, as other sites make it, so that links to it work here, too."""
    words = "".join(child.content for child in inline.children or [])
    slug = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", words).lower()).strip().replace(" ", "-") or "section"
    number, unique = 0, slug
    while unique in taken:
        number += 1
        unique = f"{slug}-{number}"
    taken.add(unique)
    return unique


def _align(cell: Token) -> None:
    style = str(cell.attrs.pop("style", ""))
    if kind := {"text-align:right": "number", "text-align:center": "center"}.get(style):
        cell.attrSet("class", kind)
    if cell.type == "th_open":
        cell.attrSet("scope", "col")


def _mark_task(item: Token, inline: Token) -> None:
    first = inline.children[0] if inline.children else None
    if first is not None and first.type == "text" and (found := _TASK.match(first.content)):
        item.attrSet("class", "task")
        first.content = f"{'☐' if found[1] == ' ' else '☑'} {first.content[found.end() :]}"


def _make_parser(*, html: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": html, "maxNesting": MAX_NESTING}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    parser.validateLink = _accept  # type: ignore[method-assign]
    parser.core.ruler.push("arrange", _arrange)
    return parser


def _accept(url: str) -> bool:
    """Accept every link, because the sanitizer keeps the text of those that lead nowhere."""
    return True


_README, _COMMENT = _make_parser(html=True), _make_parser(html=False)


def _render(parser: MarkdownIt, text: str, env: dict[str, Any]) -> str:
    try:
        with time_limit(MAX_SECONDS):
            return _sanitize(parser.render(text, env))
    except TimeoutError:
        return f"<pre>{escape(text)}</pre>"
