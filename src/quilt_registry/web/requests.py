"""Properties of requests, and the type of injected arguments."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.params import SkipValidationMarker

from quilt_registry.errors import Invalid
from quilt_registry.rate_limits import client_network

T = TypeVar("T")

AnyRequest = Request[Any, Any, Any]
AnyConnection = ASGIConnection[Any, Any, Any, Any]

# The type of a handler's argument that a dependency of the same name provides.
Injected: TypeAlias = Annotated[NamedDependency[T], SkipValidationMarker()]


def raw_path(request: AnyConnection) -> str:
    """Return the path as it was sent, still percent-encoded. The router folds double slashes in its own copy."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("ascii", "replace")


def check_url(request: AnyConnection) -> None:
    """Raise Invalid for a URL that is not UTF-8, or whose path contains a NUL.

    Decoders replace what is not UTF-8, so that without this check `%FF` and `%FE` would be the same name.
    """
    path, query = request.scope["raw_path"], request.scope["query_string"]
    if b"%" in path or b"%" in query or not query.isascii():
        try:
            unquote_to_bytes(query).decode()
            has_nul = "\0" in unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            raise Invalid("The URL is not UTF-8. Percent-encode the UTF-8 bytes of each name.") from None
        if has_nul:
            raise Invalid("The URL contains a NUL character.")


def client_ip(request: AnyConnection) -> str:
    """Return the client's IP as rate limits count it, as far as trusted proxies report it; "" if it is unknown."""
    return client_network(request.client.host) if request.client else ""


def is_speculative(request: AnyRequest) -> bool:
    """Return whether a request has no user waiting for it: HEAD, or a page that a browser loads in advance.

    Such a request must not redeem or issue anything.
    """
    headers = request.headers
    purposes = {headers.get(name, "").lower() for name in ("sec-purpose", "purpose", "x-purpose", "x-moz")}
    return request.method == "HEAD" or any("prefetch" in each or "preview" in each for each in purposes)


def records_read(request: AnyRequest) -> bool:
    """Return whether a read goes into the audit trail: a GET does, a HEAD does not."""
    return request.method == "GET"


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a header `Accept-Encoding` allows gzip: as `gzip` or `*`, without `q=0` (RFC 9110 §12.5.3)."""
    qualities = {}
    for each in accept_encoding.lower().split(","):
        coding, *parameters = each.replace(" ", "").replace("\t", "").split(";")
        qualities[coding] = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    quality = qualities.get("gzip", qualities.get("*", "0"))
    return quality.strip("0.") != ""
