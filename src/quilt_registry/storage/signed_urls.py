"""Presigned URLs to objects, created in batches. Signers are pure and picklable, so that helper processes can use them.

A URL allows one use of one key until it expires. In a directory store the uses are *get* (GET, HEAD) and *put* (PUT,
HEAD). In a bucket each method is a use of its own.

Keys consist of letters, digits, `_` and `/`, which URLs contain as they are.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

from msgspec import Struct
from msgspec.structs import replace
from obstore.store import S3Store

Use = Literal["get", "put"]
Method = Literal["GET", "HEAD", "PUT"]

BINARY = "application/octet-stream"
SHA256_BLOCK_SIZE = 64  # bytes, by which HMAC pads its key


class Signer(Protocol):
    """An object that creates presigned URLs."""

    def urls(self, keys: Sequence[str]) -> Sequence[str]:
        """Return a URL for each key, for GET."""

    def upload_urls(self, heads: Sequence[str], puts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Return a URL for HEAD for each key in `heads`, and one for PUT for each key in `puts`."""


class LocalSigner(Struct, frozen=True):
    """A signer of URLs to the registry's own endpoint for a directory store (api/quilt2/objects.py)."""

    registry_url: str
    secret: bytes
    lifetime: int  # seconds

    def urls(self, keys: Sequence[str]) -> list[str]:
        return self._urls("get", keys)

    def upload_urls(self, heads: Sequence[str], puts: Sequence[str]) -> tuple[list[str], list[str]]:
        # A URL for PUT also allows HEAD.
        urls = self._urls("put", puts)
        return (urls, urls) if heads == puts else (self._urls("get", heads), urls)

    def _urls(self, use: Use, keys: Sequence[str]) -> list[str]:
        until = int(time.time()) + self.lifetime
        start, middle = f"{self.registry_url}/objects/", f"?for={use}&until={until}&signature="
        inner, outer = _hmac_states(self.secret)
        inner.update(f"{use}\n".encode())
        copy_inner, copy_outer, end = inner.copy, outer.copy, f"\n{until}"
        urls = []
        for key in keys:
            mac, signature = copy_inner(), copy_outer()
            mac.update(f"{key}{end}".encode())
            signature.update(mac.digest())
            urls.append(f"{start}{key}{middle}{_text(signature.digest())}")
        return urls

    def signature(self, use: str, key: str, until: int) -> str:
        return _text(hmac.digest(self.secret, f"{use}\n{key}\n{until}".encode(), "sha256"))

    def permits(self, method: str, key: str, use: str, until: str, signature: str) -> bool:
        """Return whether the parts of a URL have a valid signature that allows the method and has not expired."""
        if method != "HEAD" and method.lower() != use:
            return False
        if not until.isascii() or not until.isdigit() or len(until) > 12 or int(until) < time.time():
            return False
        return hmac.compare_digest(self.signature(use, key, int(until)).encode(), signature.encode())


class S3Signer(Struct, frozen=True):
    """A signer of URLs (Signature Version 4) to a bucket, at the endpoint that clients use."""

    bucket: str
    endpoint: str | None
    region: str
    access_key_id: str
    secret_access_key: str
    lifetime: int

    def urls(self, keys: Sequence[str]) -> list[str]:
        return self._sign("GET", keys)

    def upload_urls(self, heads: Sequence[str], puts: Sequence[str]) -> tuple[list[str], list[str]]:
        return self._sign("HEAD", heads), self._sign("PUT", puts)

    def attachment_url(self, key: str, disposition: str, lifetime: int) -> str:
        """Return a URL for GET whose response has a header `Content-Disposition`, and a type that browsers save."""
        disposition, media_type = quote(disposition, safe=""), quote(BINARY, safe="")
        answer = f"&response-content-disposition={disposition}&response-content-type={media_type}"
        (url,) = replace(self, lifetime=lifetime)._sign("GET", [key], answer=answer)
        return url

    def _sign(self, method: Method, keys: Sequence[str], now: datetime | None = None, *, answer: str = "") -> list[str]:
        """Sign as AWS documents it ("Authenticating Requests: Using Query Parameters").

        All that the URLs of a batch share is computed once, because a large install has 100,000 of them. `answer` are
        more parameters, whose names sort after all others.
        """
        now = now or datetime.now(UTC)
        stamp, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{self.region}/s3/aws4_request"
        base = self._base_url()
        parts = urlsplit(base)
        query = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(f'{self.access_key_id}/{scope}', safe='')}"
            f"&X-Amz-Date={stamp}&X-Amz-Expires={self.lifetime}&X-Amz-SignedHeaders=host{answer}"
        )
        head, tail = f"{method}\n{parts.path}/", f"\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        inner, outer = _hmac_states(self._signing_key(scope))
        inner.update(f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n".encode())
        copy_inner, copy_outer, end = inner.copy, outer.copy, f"?{query}&X-Amz-Signature="
        urls = []
        for key in keys:
            mac, signature = copy_inner(), copy_outer()
            mac.update(sha256(f"{head}{key}{tail}".encode()).hexdigest().encode())
            signature.update(mac.digest())
            urls.append(f"{base}/{key}{end}{signature.hexdigest()}")
        return urls

    def _signing_key(self, scope: str) -> bytes:
        key = b"AWS4" + self.secret_access_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key

    def _base_url(self) -> str:
        """Return the URL of the bucket, for clients."""
        if self.endpoint is None:
            return f"https://{self.bucket}.s3.{self.region}.amazonaws.com"
        if _is_aws(self.endpoint):
            return _bucket_endpoint(self.endpoint, self.bucket)
        return f"{self.endpoint}/{self.bucket}"

    def store(self, endpoint: str | None = None) -> S3Store:
        """Return a client of the bucket, at `endpoint` or at the endpoint that clients use."""
        endpoint = endpoint or self.endpoint
        return S3Store(
            self.bucket,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            # Path style outside of AWS, because other stores seldom have a host name for each bucket.
            virtual_hosted_style_request=endpoint is None or _is_aws(endpoint),
            client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "5s"},
            retry_config={
                "max_retries": 3,
                "retry_timeout": timedelta(seconds=15),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
            # Without an endpoint obstore uses that of AWS. It refuses None.
            config={"endpoint": _bucket_endpoint(endpoint, self.bucket)} if endpoint else {},
        )


def _text(digest: bytes) -> str:
    return urlsafe_b64encode(digest)[:43].decode()


def _hmac_states(key: bytes) -> tuple[Any, Any]:
    """Return the inner and the outer hash of HMAC-SHA256 after its key. Copying them saves hashing it for each URL."""
    padded = key.ljust(SHA256_BLOCK_SIZE, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in padded)), sha256(bytes(byte ^ 0x5C for byte in padded))


def _is_aws(endpoint: str) -> bool:
    return endpoint.endswith(".amazonaws.com")


def _bucket_endpoint(endpoint: str, bucket: str) -> str:
    """Return the endpoint that obstore needs. For virtual-hosted style it contains the bucket."""
    if not _is_aws(endpoint):
        return endpoint
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"
