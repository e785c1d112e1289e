"""The template's CORS rule in a real store: preflight requests, and the responses that a page may read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import boto3
import httpx
import pytest

from tests import trees
from tests.deploy.templates import load
from tests.registry import Registry
from tests.s3server import S3Server

pytestmark = [pytest.mark.drill, pytest.mark.s3]

ORIGIN = "https://quilt.example.com"
DATA = b"read by a page"
[RULE] = load()["Resources"]["Bucket"]["Properties"]["CorsConfiguration"]["CorsRules"]


@pytest.fixture
def rule(s3: S3Server) -> Iterator[None]:
    """Apply the rule to the tests' bucket."""
    client = boto3.client(
        "s3", endpoint_url=s3.endpoint, region_name="us-east-1",
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    )  # fmt: skip
    rule = {
        "ID": RULE["Id"],
        "AllowedOrigins": RULE["AllowedOrigins"],
        "AllowedMethods": RULE["AllowedMethods"],
        "AllowedHeaders": RULE["AllowedHeaders"],
        "ExposeHeaders": RULE["ExposedHeaders"],
        "MaxAgeSeconds": RULE["MaxAge"],
    }
    client.put_bucket_cors(Bucket="packages", CORSConfiguration={"CORSRules": [rule]})
    yield
    client.delete_bucket_cors(Bucket="packages")


def words(answer: httpx.Response, header: str) -> set[str]:
    return {word.strip().lower() for word in answer.headers.get(f"access-control-{header}", "").split(",")}


def preflight(url: str, method: str, *headers: str) -> httpx.Response:
    """Send a preflight request."""
    requested = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ", ".join(headers)}
    return httpx.options(url, headers={"Origin": ORIGIN, **{name: value for name, value in requested.items() if value}})


@pytest.mark.usefixtures("rule")
def test_a_page_may_push_and_read(s3: S3Server, own_registry: Callable[..., Registry]) -> None:
    registry = own_registry(**s3.settings, CATALOG_URL=ORIGIN)
    iris, node = registry.make_person("iris"), trees.tree({"x": DATA})
    upload = iris.upload("iris", "seen", node, [])[trees.sha(DATA)]
    assert preflight(upload["head"], "HEAD").status_code == 200
    allowed = preflight(upload["put"], "PUT", "content-type", "x-amz-checksum-sha256")
    assert allowed.status_code == 200
    assert words(allowed, "allow-origin") <= {"*", ORIGIN}
    assert "put" in words(allowed, "allow-methods")
    assert words(allowed, "allow-headers") >= {"content-type", "x-amz-checksum-sha256"}
    assert allowed.headers["access-control-max-age"] == str(RULE["MaxAge"])
    assert httpx.put(upload["put"], content=DATA, headers={"Origin": ORIGIN}).status_code == 200

    [url] = iris.install("iris", "seen", iris.push("seen", {"x": DATA}))["urls"].values()
    assert preflight(url, "GET", "range").status_code == 200
    assert preflight(url, "DELETE").status_code == 403
    answer = httpx.get(url, headers={"Origin": ORIGIN, "Range": "bytes=5-6"})
    assert (answer.status_code, answer.content) == (206, DATA[5:7])
    assert words(answer, "allow-origin") <= {"*", ORIGIN}
    assert words(answer, "expose-headers") == {name.lower() for name in RULE["ExposedHeaders"]}
    assert "cors      ok" in registry.command("check").stdout
