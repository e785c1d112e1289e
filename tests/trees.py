"""Package trees for tests, and an independent implementation of the top hash to compare with."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

Json = dict[str, Any]
Files = dict[str, Any]  # name → bytes, or nested Files


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file(*contents: bytes, **more: Any) -> Json:
    return {"type": "FILE", "hashes": [sha(data) for data in contents], **more}


def table(*contents: bytes, **more: Any) -> Json:
    return {"type": "TABLE", "format": "PARQUET", "hashes": [sha(data) for data in contents], **more}


def group(children: Json, **more: Any) -> Json:
    return {"type": "GROUP", "children": children, **more}


def root(children: Json, **more: Any) -> Json:
    return {"type": "ROOT", "children": children, **more}


def tree(files: Files) -> Json:
    """Return a ROOT with files and groups as in nested dicts of bytes."""
    node = branch(files)
    return {**node, "type": "ROOT"}


def branch(files: Files) -> Json:
    """Return a GROUP with files and groups as in nested dicts of bytes."""
    return group(
        {
            name: branch(value)
            if isinstance(value, dict)
            else file(value, metadata={"q_path": f"{name}.bin", "q_ext": "id", "q_target": "file"})
            for name, value in files.items()
        }
    )


def contents(files: Files) -> list[bytes]:
    """Return all contents in nested dicts."""
    found = []
    for value in files.values():
        found += contents(value) if isinstance(value, dict) else [value]
    return found


def sizes(data: list[bytes]) -> dict[str, int]:
    return {sha(each): len(each) for each in data}


def top_hash(node: Json) -> str:
    """Return the top hash, computed as protocol §7 specifies."""
    return hashlib.sha256(_walk(node)).hexdigest()


def _walk(node: Json) -> bytes:
    out = _text(node["type"])
    if "hashes" in node:
        out += struct.pack(">L", len(node["hashes"]))
        for digest in node["hashes"]:
            out += _text(digest)
    else:
        out += struct.pack(">L", len(node["children"]))
        for name in sorted(node["children"]):
            out += _text(name) + _walk(node["children"][name])
    if "metadata_hash" in node:
        out += _text(node["metadata_hash"])
    return out


def _text(value: str) -> bytes:
    return struct.pack(">L", len(value)) + value.encode()


# A tree with each kind of node, and the contents of all its objects.
EVERYTHING: Json = root(
    {
        "README": file(b"# Everything"),
        "empty": file(b""),
        "g": group(
            {
                "t": table(b"one", b"two", b"one", metadata={"q_target": "pandas"}),
                "none": table(),
                "f": file(b"one", metadata_hash=sha(b"{}")),
            },
            metadata_hash=sha(b'{"a":1}'),
        ),
        "nothing": group({}),
    },
    metadata_hash=sha(b"{}"),
)


DATA = [b"# Everything", b"", b"one", b"two", b"{}", b'{"a":1}']
