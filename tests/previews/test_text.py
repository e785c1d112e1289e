"""Text is decoded, cut into pages, and coloured; nothing in it becomes HTML."""

from __future__ import annotations

import pytest

from quilt_registry.previews import hexdump, kinds, text
from quilt_registry.previews.kinds import Source


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ("", "UTF-8")),
        ("täble".encode(), ("täble", "UTF-8")),
        ("täble".encode("utf-8-sig"), ("täble", "UTF-8")),
        ("täble".encode()[:-5], ("t", "UTF-8")),
        ("täble".encode("utf-16"), ("täble", "UTF-16")),
        ("täble".encode("cp1252"), ("täble", "Windows-1252 (guessed)")),
        (b"a\0b", None),
        (bytes(range(1, 32)) + b"\xff\xfe", None),
    ],
)
def test_encodings(data: bytes, expected: tuple[str, str] | None) -> None:
    assert text.decode(data) == expected


def test_code_is_coloured() -> None:
    page = text.render(b"def f():\n    return '<b>'\n", "a.py", 1)
    assert page
    assert page.language == "Python"
    assert page.lines[0].startswith('<span class="k">def</span>')
    assert "&lt;b&gt;" in page.lines[1]
    assert len(page.lines) == page.total == 2


@pytest.mark.parametrize("name", ["a.txt", "a.py", "a.html", "a.json", "unknown", "a.csv"])
def test_each_line_stays_a_line(name: str) -> None:
    data = b'\n\n"""a\n<script>alert(\'x\')</script>\n"""\r\nb\rc\n\n'
    page = text.render(data, name, 1)
    assert page
    assert len(page.lines) == page.total == 8
    assert not any("<script" in line for line in page.lines)


def test_invisible_characters_are_shown() -> None:
    page = text.render("a\u202eb".encode(), "a.py", 1)
    assert page
    assert "\u202e" not in page.lines[0]
    assert "U+202E" in page.lines[0]


def test_long_texts_have_pages() -> None:
    data = b"".join(b"line %d\n" % number for number in range(12_000))
    pages = [text.render(data, "a.log", number) for number in (1, 3, 4)]
    assert [(page.first, len(page.lines), page.total, page.pages) for page in pages if page] == [
        (1, 5000, 12_000, 3), (10_001, 2000, 12_000, 3), (15_001, 0, 12_000, 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("train", Source("raw/train.CSV", "file"), "csv"),
        ("train", Source("raw/train.csv", "pandas"), "table"),
        ("a", Source("a.npy", "numpy"), "array"),
        ("plot", Source("C:\\plots\\plot.png"), "image"),
        ("notes.md", Source(), "markdown"),
        ("vector", Source("a.svg"), "code"),
        ("README", Source(), "markdown"),
    ],
)
def test_kinds_by_name(name: str, source: Source, kind: str) -> None:
    assert kinds.by_name(name, source) == kind


def test_kinds_by_content() -> None:
    assert kinds.by_content(b"PAR1....") == "table"
    assert kinds.by_content(b"plain") == "text"
    assert kinds.by_content(b"\0\1\2") == "file"


@pytest.mark.parametrize("metadata", [b"{}", b'{"q_path": null, "q_target": 5}', b'{"q_path": ["a"]}'])
def test_odd_metadata_names_no_source(metadata: bytes) -> None:
    assert kinds.source_of(metadata) == Source()


def test_downloads_have_the_extension_of_what_they_are() -> None:
    assert kinds.download_name("train", Source("raw/train.csv", "file")) == "train.csv"
    assert kinds.download_name("train", Source("raw/train.csv"), is_table=True) == "train.parquet"
    assert kinds.download_name("train", Source(), is_table=True, number="2") == "train-2.parquet"
    assert kinds.download_name("a", Source("a.txt", "numpy")) == "a.npy"
    assert kinds.download_name("noext", Source()) == "noext"


def test_first_bytes() -> None:
    lines = hexdump.render(bytes(range(60, 100)) * 20)
    assert len(lines) == 16
    assert (lines[1].offset, lines[0].text) == ("0010", "<=>?@ABCDEFGHIJK")
