"""Static files, loaded once. Their names contain a hash of their content, so that browsers keep them for a year."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.errors import NotFound
from quilt_registry.web.requests import AnyRequest, accepts_gzip

DIRECTORY = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_COMPRESSED = (".css", ".js", ".svg")  # fonts and pictures are compressed already
_URL = re.compile(rb"url\((?P<name>[\w./-]+)\)")


class _StaticFile(Struct, frozen=True):
    """A file as it is sent. `packed` is its gzip form, None for what gzip does not shorten."""

    media_type: str
    body: bytes
    packed: bytes | None


def _load() -> tuple[dict[str, str], dict[str, _StaticFile]]:
    """Return the public name of each file, and the files by their public names."""
    names: dict[str, str] = {}
    files: dict[str, _StaticFile] = {}
    paths = [path for path in DIRECTORY.rglob("*") if path.suffix in MEDIA_TYPES]
    for path in sorted(paths, key=lambda path: (path.suffix == ".css", path)):  # style sheets name the others
        name = path.relative_to(DIRECTORY).as_posix()
        body = path.read_bytes()
        if path.suffix == ".css":
            body = _URL.sub(lambda found: b"url(/static/%s)" % names[found["name"].decode()].encode(), body)
        public = f"{name.removesuffix(path.suffix)}.{hashlib.sha256(body).hexdigest()[:12]}{path.suffix}"
        packed = gzip.compress(body, mtime=0) if path.suffix in _COMPRESSED else None
        names[name] = public
        files[public] = _StaticFile(MEDIA_TYPES[path.suffix], body, packed)
    return names, files


_names, _files = _load()


def url(name: str) -> str:
    """Return the path of a static file."""
    return f"/static/{_names[name]}"


async def serve(request: AnyRequest, path: FromPath[str]) -> Response[Any]:
    """Return a static file. Raise NotFound."""
    file = _files.get(path.removeprefix("/"))
    if file is None:
        raise NotFound("There is nothing at this URL.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    body = file.body
    if file.packed and accepts_gzip(request.headers.get("accept-encoding", "")):
        body = file.packed
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=file.media_type, headers=headers)
