"""Presigned URLs: what they contain and how long they are accepted, without a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
import pytest

from quilt_registry.storage.objects import final_key, staging_key
from quilt_registry.storage.signed_urls import LocalSigner, S3Signer
from tests.registry import Registry
from tests.trees import file, root, sha

KEYS = [final_key("anna", sha(b"1")), staging_key("anna", "ben_2", sha(b"2")), "check/0123456789abcdef"]
ENDPOINTS = [
    None,
    "http://127.0.0.1:9000",
    "https://minio.example.com",
    "https://s3.eu-central-1.amazonaws.com",
    "https://s3.dualstack.eu-central-1.amazonaws.com",
]


# ------------------------------------------------------------------------------------------------ a bucket


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_urls_of_a_bucket_are_those_of_obstore(endpoint: str | None, method: str) -> None:
    signer = S3Signer("packages.acme", endpoint, "eu-central-1", "AKIA/+=", "a secret/+=", 86_400)
    theirs = obstore.sign(signer.store(), method, KEYS, timedelta(seconds=86_400))  # type: ignore[call-overload]
    (date,) = parse_qs(urlsplit(theirs[0]).query)["X-Amz-Date"]
    now = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert signer._sign(method, KEYS, now) == list(theirs)  # type: ignore[arg-type]


def test_the_urls_of_an_upload_are_for_head_and_for_put() -> None:
    signer = S3Signer("packages", None, "us-east-1", "AKIA", "secret", 600)
    (head,), (put,) = signer.upload_urls(KEYS[:1], KEYS[1:2])
    assert head.startswith(f"https://packages.s3.us-east-1.amazonaws.com/{KEYS[0]}?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert put.startswith(f"https://packages.s3.us-east-1.amazonaws.com/{KEYS[1]}?")
    assert len({urlsplit(url).query for url in (head, put, *signer.urls(KEYS[:1]))}) == 3


def test_a_registry_with_a_bucket_on_aws_needs_no_endpoint(local_registry: Callable[..., Registry]) -> None:
    keys = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
    anna = local_registry(PACKAGE_BUCKET_NAME="packages", **keys).make_person("anna")
    answer = anna.send_push("anna", "iris", root({"f": file(b"1")}), dry_run=True)
    key = final_key("anna", sha(b"1"))
    for url in answer.json()["upload_urls"][sha(b"1")].values():
        assert url.startswith(f"https://packages.s3.eu-west-1.amazonaws.com/{key}?")


# ------------------------------------------------------------------------------------------------ a directory


def permits(signer: LocalSigner, method: str, url: str) -> bool:
    parts = httpx.URL(url)
    query = dict(parts.params)
    return signer.permits(
        method, parts.path.removeprefix("/objects/"), query["for"], query["until"], query["signature"]
    )


def test_urls_of_a_directory_permit_their_use() -> None:
    signer = LocalSigner("http://registry", b"secret", 600)
    (get,) = signer.urls(KEYS[:1])
    (head,), (put,) = signer.upload_urls(KEYS[:1], KEYS[1:2])
    assert [permits(signer, method, get) for method in ("GET", "HEAD", "PUT")] == [True, True, False]
    assert [permits(signer, method, put) for method in ("GET", "HEAD", "PUT")] == [False, True, True]
    assert permits(signer, "HEAD", head)
    assert not permits(LocalSigner("http://registry", b"other", 600), "GET", get)


def test_signatures_are_those_of_the_previous_release() -> None:
    """While both run, a client may take a URL of one to the other."""
    signer = LocalSigner("http://registry", b"secret", 600)
    until = int(time.time()) + 600
    assert signer.signature("get", "objs/a", 1790000000) == "cOUeYFs3fcNc8hBeqdb_33Aw-1lREONA5Fn8EM5q1Bs"
    good = signer.signature("get", KEYS[0], until)
    assert signer.permits("GET", KEYS[0], "get", str(until), good)
    assert not signer.permits("PUT", KEYS[0], "put", str(until), good)
    assert not signer.permits("GET", KEYS[1], "get", str(until), good)
    assert not signer.permits("GET", KEYS[0], "get", "1790000000", signer.signature("get", KEYS[0], 1790000000))
