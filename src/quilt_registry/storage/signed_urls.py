"""Signed URLs to objects, made in batches. Pure and picklable, so that helper processes can make them.

A URL allows one use of one key until its time has come. Here they are *get* (GET, HEAD) and *put* (PUT, HEAD); in a
bucket each method has its own.
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
    """Makes URLs that let whoever holds them use one object."""

    def urls(self, keys: Sequence[str]) -> Sequence[str]:
        """One URL a key, to GET it."""

    def upload_urls(self, heads: Sequence[str], puts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Two URLs an object: to ask whether a key is there (HEAD), and to PUT a key, often the same."""


class LocalSigner(Struct, frozen=True):
    """URLs to the registry's own endpoint in front of a directory (wire/objects.py)."""

    registry_url: str
    secret: bytes
    lifetime: int

    def urls(self, keys: Sequence[str]) -> list[str]:
        return self._urls("get", keys)

    def upload_urls(self, heads: Sequence[str], puts: Sequence[str]) -> tuple[list[str], list[str]]:
        # Whether an upload is needed is asked with the URL for the upload itself.
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
        """Whether a URL with these parts was signed here, for this method, and is still good."""
        if method != "HEAD" and method.lower() != use:
            return False
        if not until.isascii() or not until.isdigit() or len(until) > 12 or int(until) < time.time():
            return False
        return hmac.compare_digest(self.signature(use, key, int(until)).encode(), signature.encode())


class S3Signer(Struct, frozen=True):
    """Pre-signed URLs (Signature Version 4) to a bucket, under the address that clients reach."""

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
        """The bucket itself, reached at `endpoint` or where clients reach it."""
        address = endpoint or self.endpoint
        return S3Store(
            self.bucket,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            # Path style wherever the address is not AWS's own: other stores seldom have a name for each bucket.
            virtual_hosted_style_request=address is None or address.endswith(".amazonaws.com"),
            client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "5s"},
            retry_config={
                "max_retries": 3,
                "retry_timeout": timedelta(seconds=15),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
            endpoint=_endpoint(address, self.bucket) if address else None,
        )


def _endpoint(address: str, bucket: str) -> str:
    """What the store library wants: with virtual hosts, the bucket's own host."""
    if not address.endswith(".amazonaws.com"):
        return address
    scheme, _, host = address.partition("://")
    return f"{scheme}://{bucket}.{host}"


@lru_cache(maxsize=4)
def _s3(signer: S3Signer) -> S3Store:
    return signer.store()
