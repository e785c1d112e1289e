"""Presigned URLs to objects, created in batches. Signers are pure and picklable, so that helper processes can use them.

A URL allows one use of one key until it expires. In a directory store the uses are *get* (GET, HEAD) and *put* (PUT,
HEAD). In a bucket each method is a use of its own.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Literal, Protocol

import obstore
from msgspec import Struct
from obstore.store import S3Store

Use = Literal["get", "put"]


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
        start, sign = f"{self.registry_url}/objects/", self.signature
        return [f"{start}{key}?for={use}&until={until}&signature={sign(use, key, until)}" for key in keys]

    def signature(self, use: str, key: str, until: int) -> str:
        digest = hmac.digest(self.secret, f"{use}\n{key}\n{until}".encode(), "sha256")
        return urlsafe_b64encode(digest)[:43].decode()

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

    def urls(self, keys: Sequence[str]) -> Sequence[str]:
        return self._sign("GET", keys)

    def upload_urls(self, heads: Sequence[str], puts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        return self._sign("HEAD", heads), self._sign("PUT", puts)

    def _sign(self, method: Literal["GET", "HEAD", "PUT"], keys: Sequence[str]) -> Sequence[str]:
        return obstore.sign(_s3(self), method, keys, timedelta(seconds=self.lifetime))

    def store(self, endpoint: str | None = None) -> S3Store:
        """Return a client of the bucket, at `endpoint` or at the endpoint that clients use."""
        endpoint = endpoint or self.endpoint
        return S3Store(
            self.bucket,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            # Path style outside of AWS, because other stores seldom have a host name for each bucket.
            virtual_hosted_style_request=endpoint is None or endpoint.endswith(".amazonaws.com"),
            client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "5s"},
            retry_config={
                "max_retries": 3,
                "retry_timeout": timedelta(seconds=15),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
            endpoint=_bucket_endpoint(endpoint, self.bucket) if endpoint else None,
        )


def _bucket_endpoint(endpoint: str, bucket: str) -> str:
    """Return the endpoint that obstore needs. For virtual-hosted style it contains the bucket."""
    if not endpoint.endswith(".amazonaws.com"):
        return endpoint
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


@lru_cache(maxsize=4)
def _s3(signer: S3Signer) -> S3Store:
    return signer.store()
