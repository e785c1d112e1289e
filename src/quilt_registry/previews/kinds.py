"""Kinds of files: by what a build made of them, by the extension of their source, by their first bytes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from quilt_registry.previews.text import decode

_EXTENSIONS = {
    "archive": "zip tar gz tgz bz2 xz zst 7z jar whl",
    "array": "npy npz",
    "audio": "mp3 wav flac ogg m4a",
    "code": "bash bat c cc cfg clj conf cpp cs css dockerfile go gradle h hpp hs htm html ini java jl js jsx kt lua m "
    "makefile pl php ps1 py pyi r rb rs scala sh sql svg swift tex toml ts tsx vue xhtml xml xsl yaml yml",
    "csv": "csv tsv psv ssv",
    "document": "doc docx odt ppt pptx rtf",
    "image": "bmp gif jpe jpeg jpg png tif tiff webp",
    "json": "geojson ipynb json json5 jsonl ndjson",
    "markdown": "markdown md",
    "pdf": "pdf",
    "spreadsheet": "ods xls xlsm xlsx",
    "table": "arrow feather orc parquet",
    "text": "log rst text txt",
    "video": "avi mkv mov mp4 webm",
}
_KINDS = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}
_TARGETS = {"pandas": "table", "numpy": "array"}
_BUILT = {"pandas": "parquet", "numpy": "npy"}  # extensions of what builds make
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image",
    b"\xff\xd8\xff": "image",
    b"GIF8": "image",
    b"BM": "image",
    b"II*\0": "image",
    b"MM\0*": "image",
    b"%PDF-": "pdf",
    b"PAR1": "table",
    b"\x93NUMPY": "array",
    b"PK\x03\x04": "archive",
    b"\x1f\x8b": "archive",
}
TEXTS = ("code", "csv", "json", "markdown", "text")  # kinds that are shown as text


class Source(Struct, frozen=True):
    """What a build recorded of a node: the path of its source file, and what it made of it; "" if unknown."""

    path: str = ""
    target: str = ""

    @property
    def name(self) -> str:
        """The name of the source file. Clients on Windows recorded backslashes."""
        return self.path.replace("\\", "/").rpartition("/")[2]


class _Metadata(Struct):
    q_path: Any = None
    q_target: Any = None


_decoder = msgspec.json.Decoder(_Metadata)


def source_of(metadata: bytes) -> Source:
    """Return the source in the metadata of a file or table. The values may be anything that JSON can hold."""
    try:
        found = _decoder.decode(metadata)
    except (msgspec.MsgspecError, RecursionError):
        return Source()
    path, target = [value if isinstance(value, str) else "" for value in (found.q_path, found.q_target)]
    return Source(path, target)


def by_name(name: str, source: Source, *, is_table: bool = False) -> str:
    """Return the kind of a node by its name and source; "file" if they do not tell it."""
    if is_table or source.target in _TARGETS:
        return _TARGETS.get(source.target, "table")
    file_name = (source.name or name).lower()
    if file_name == "readme":
        return "markdown"
    return _KINDS.get(file_name.rpartition(".")[2], "file")


def download_name(name: str, source: Source, *, is_table: bool = False, number: str = "") -> str:
    """Return the name for a download of a node: that of its source, with the extension of what a build made of it."""
    target = "pandas" if is_table else source.target
    file_name = source.name or name
    stem, dot, extension = file_name.rpartition(".")
    if target in _BUILT:
        stem, dot, extension = stem or file_name, ".", _BUILT[target]
    return f"{stem}-{number}{dot}{extension}" if number and stem else f"{stem}{dot}{extension}"


def by_content(data: bytes) -> str:
    """Return the kind of a file by its first bytes; "file" if they do not tell it."""
    kind = next((kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)), "")
    if not kind and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image"
    return kind or ("text" if decode(data) else "file")
