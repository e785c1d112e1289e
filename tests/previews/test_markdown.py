"""Markdown as HTML: what is shown, and what never gets to a page."""

from __future__ import annotations

import time

import pytest

from quilt_registry.previews import markdown

REL = 'rel="nofollow ugc noopener noreferrer"'
FILES = {
    "plot.png": "/files/plot",
    "raw/train.csv": "/files/raw/train",
    "raw/train.csv#head": "/files/raw/train#readme-head",
}


def shown(text: str) -> str:
    """A README whose package has the files above."""
    return markdown.finish(markdown.draft(text).html, FILES, FILES)


def comment(text: str) -> str:
    return markdown.comments([text])[0]


def test_headings_are_one_level_down_and_have_ids_of_their_own() -> None:
    html = shown("# Iris\n## The `columns`\n## The columns\n###### Deep\n[up](#iris)")
    assert '<h2 id="readme-iris">Iris</h2>' in html
    assert '<h3 id="readme-the-columns">The <code>columns</code></h3>' in html
    assert '<h3 id="readme-the-columns-1">' in html
    assert '<h6 id="readme-deep">' in html
    assert 'href="#readme-iris"' in html


def test_tables_scroll_and_align() -> None:
    html = shown("| a | b |\n|---|--:|\n| ~~x~~ | 2 |")
    assert 'role="region"' in html
    assert 'tabindex="0"' in html
    assert '<th scope="col">a</th>' in html
    assert '<td class="number">2</td>' in html
    assert "<s>x</s>" in html


def test_tasks_have_boxes() -> None:
    html = shown("- [x] measured\n- [ ] verified\n- [no] task")
    assert '<li class="task">☑ measured</li>' in html
    assert '<li class="task">☐ verified</li>' in html
    assert "<li>[no] task</li>" in html


def test_code_has_colors() -> None:
    html = shown("```python\ndef f(): return 'x'  # <b>\n```\n\n    plain <b>\n\n```nothing\n<i>\n```")
    assert '<span class="k">def</span>' in html
    assert '<span class="c1"># &lt;b&gt;</span>' in html
    assert "plain &lt;b&gt;" in html
    assert "&lt;i&gt;" in html


def test_links_lead_to_files_of_the_package() -> None:
    html = shown(
        "[table](raw/train.csv) [head](raw/train.csv#head) [gone](gone.csv) ![plot](plot.png) ![lost](lost.png)"
    )
    assert f'<a href="/files/raw/train" {REL}>table</a>' in html
    assert 'href="/files/raw/train#readme-head"' in html
    assert ">gone</a>" in html
    assert "gone.csv" not in html
    assert '<img src="/files/plot" alt="plot" loading="lazy">' in html
    assert "lost" in html
    assert html.count("<img") == 1


def test_images_of_other_sites_are_links() -> None:
    html = shown("![logo](https://far.example/x.png?a=1&b) [![badge](https://ci.example/b.svg)](https://ci.example/)")
    assert f'<a href="https://far.example/x.png?a=1&amp;b" {REL}>image: logo (far.example)</a>' in html
    assert f'<a href="https://ci.example/" {REL}>image: badge (ci.example)</a>' in html
    assert "href" not in shown("![x](http://[bad)")
    assert "<img" not in shown('<img src="//far.example/x.png"> <IMG SRC=https://far.example/y.png alt=y>')


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:x", "&#106;avascript:x", "data:text/html,x",
        "vbscript:x", "file:///etc/passwd", "//x.example/y", "/\\x.example",
    ],
)  # fmt: skip
def test_links_elsewhere_are_text(target: str) -> None:
    for text in (f"[label](<{target}>)", f'<a href="{target}">label</a>', f"[label][1]\n\n[1]: <{target}>"):
        html = shown(text)
        assert "href" not in html
        assert "label" in html


def test_html_of_readmes_is_on_a_short_list() -> None:
    html = shown(
        '<details open class="a" id="b" hx-get="/x" onclick="x"><summary>More</summary>\n\n*text*\n\n</details>\n\n'
        '<p align="center" style="color:red" data-hx-get="/x">H<sub>2</sub>O <kbd>Ctrl</kbd><br></p>\n'
    )
    assert "<summary>More</summary>" in html
    assert "<em>text</em>" in html
    assert "H<sub>2</sub>O <kbd>Ctrl</kbd><br></p>" in html
    for name in ("class=", "id=", "hx-get", "onclick", "style", "align"):
        assert name not in html


BAD = [
    "<script", "<style", "<iframe", "<form", "<input", "<svg", "<math", "<base", "<button", ' onerror="', ' onload="',
    "hx-", "class=", " id=", "name=", "role=", "tabindex", '<img src="x',
]  # fmt: skip


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>", "<style>body{}</style>", "<iframe src=/x>", "<base href=//x>",
        "<form action=/x><input name=q></form>", "<button hx-post=/x>x</button>", "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>", "<math><mi//xlink:href='javascript:x'>", "<scr<b>ipt>alert(1)</script>",
        "<h2 id=main>x</h2>", "<span class=k>x</span>", "<p id='readme-x' name=x>x",
        '<div class="region" tabindex=1 role=main>x</div>', "<img alt='<script>'", "<a href='x\"><script>'>",
        "<!-- <script> -->", "<![CDATA[<script>]]>", "<?php <script> ?>",
        '<noscript><p title="</noscript><img src=x onerror=x>">',
    ],
)  # fmt: skip
def test_nothing_else_gets_through(html: str) -> None:
    for text in (html, f"text {html} text", f"<div>\n{html}\n</div>", f"* {html}"):
        result = shown(text).lower()
        assert [bad for bad in BAD if bad in result] == [], (text, result)


def test_comments_have_no_html_and_no_images() -> None:
    html = comment("**bold** <b>x</b> ![alt](https://x.example/y.png) [file](raw/train.csv) <img src=x>\n\n# Title")
    assert "<strong>bold</strong> &lt;b&gt;x&lt;/b&gt; image: alt " in html
    assert "<img" not in html
    assert "train.csv" not in html
    assert "<h2>Title</h2>" in html
    assert comment("[ok](https://ok.example)") == f'<p><a href="https://ok.example" {REL}>ok</a></p>\n'


def test_targets_are_limited() -> None:
    draft = markdown.draft("".join(f"[a](file{n}.csv)\n" for n in range(500)))
    assert len(draft.targets) == markdown.MAX_TARGETS


def test_long_and_deep_texts_are_rendered_in_time() -> None:
    began = time.monotonic()
    for text in (">" * 5000 + "x", "[" * 50_000, "<a " * 50_000, "`" * 50_000 + "a"):
        assert markdown.draft(text).html
    assert time.monotonic() - began < 4 * (markdown.MAX_SECONDS + 1)
