"""Rotation of the key that signs URLs, as an operator does it, while clients hold URLs of both keys."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests import trees
from tests.registry import Registry
from tests.s3server import S3Server

pytestmark = [pytest.mark.drill, pytest.mark.s3]

NEW = b"pushed while the key was rotated"


@dataclass
class Key:
    """An access key of the signing user, active at most during one test."""

    s3: S3Server
    name: str
    secret: str

    def activate(self) -> None:
        self.s3.add_key(self.name, self.secret)

    def deactivate(self) -> None:
        self.s3.remove_key(self.name)


@pytest.fixture
def keys(s3: S3Server) -> Iterator[tuple[Key, Key]]:
    """The old key and the new one. The store's own key stays for other tests."""
    pair = Key(s3, "OLD", secrets.token_hex(20)), Key(s3, "NEW", secrets.token_hex(20))
    for key in pair:
        key.activate()
    yield pair
    for key in pair:
        key.deactivate()


def signed_by(url: str) -> str:
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


def status(url: str) -> int:
    return httpx.get(url).status_code


def test_old_urls_live_until_the_old_key_is_gone(
    s3: S3Server, keys: tuple[Key, Key], own_registry: Callable[..., Registry]
) -> None:
    old, new = keys
    of_old = {**s3.settings, "AWS_ACCESS_KEY_ID": old.name, "AWS_SECRET_ACCESS_KEY": old.secret}
    registry = own_registry(**of_old)
    rosa, data = registry.make_person("rosa"), b"pushed before"
    top_hash, node = rosa.push("kept", {"x": data}), trees.tree({"x": NEW})
    [before] = rosa.install("rosa", "kept", top_hash)["urls"].values()
    upload = rosa.send_push("rosa", "kept", node, dry_run=True).json()["upload_urls"][trees.sha(NEW)]
    assert {signed_by(url) for url in (before, *upload.values())} == {"OLD"}

    # By hand, as the old guide describes: two variables are edited, the third keeps the old secret.
    registry.environment |= {"AWS_ACCESS_KEY_ID": new.name, "AWS_SECRET_KEY": new.secret}
    assert registry.stop() == 0
    registry.start()
    assert registry.log.read_text().count("AWS_SECRET_KEY and AWS_SECRET_ACCESS_KEY differ") == 1
    assert all(key.secret not in registry.log.read_text() for key in keys)
    assert registry.command("check").returncode == 0
    [after] = rosa.install("rosa", "kept", top_hash)["urls"].values()
    assert signed_by(after) == "NEW"

    # A transfer that began earlier continues with its URLs.
    assert httpx.get(before).content == data
    assert httpx.head(upload["head"]).status_code == 404
    assert httpx.put(upload["put"], content=NEW).status_code == 200
    assert rosa.send_push("rosa", "kept", node, sizes=trees.sizes([NEW])).status_code == 200

    old.deactivate()
    assert (status(before), status(after)) == (403, 200)
    old.activate()  # deactivated too early: this can be undone
    assert (status(before), status(after)) == (200, 200)
    old.deactivate()
    assert (status(before), status(after)) == (403, 200)
    assert httpx.put(upload["put"], content=NEW).status_code == 403
    rosa.install("rosa", "kept", trees.top_hash(node))
    rosa.push("kept", {"x": b"pushed after"})
    old.activate()


def test_a_key_that_is_deleted_too_early_is_reported(
    s3: S3Server, keys: tuple[Key, Key], local_registry: Callable[..., Registry]
) -> None:
    """The operator deleted the key that the registry still signs with."""
    old, _ = keys
    registry = local_registry(**{**s3.settings, "AWS_ACCESS_KEY_ID": old.name, "AWS_SECRET_ACCESS_KEY": old.secret})
    assert httpx.get(registry.url + "/readyz").status_code == 200
    old.deactivate()
    checked = registry.command("check")
    assert checked.returncode == 1
    assert "store     failed" in checked.stdout
    assert "the keys" in checked.stdout
    assert old.secret not in checked.stdout
    old.activate()
    assert registry.command("check").returncode == 0


def test_a_presigned_url_opens_nothing_else_and_expires(s3: S3Server, local_registry: Callable[..., Registry]) -> None:
    registry = local_registry(**s3.settings, PACKAGE_URL_EXPIRATION="604800")
    lena = registry.make_person("lena")
    urls = lena.install("lena", "two", lena.push("two", {"x": b"1", "y": b"2"}))["urls"]
    one, two = (urls[trees.sha(data)] for data in (b"1", b"2"))
    assert status(one.replace(trees.sha(b"1"), trees.sha(b"2"))) == 403
    assert status(one.replace("X-Amz-Expires=604800", "X-Amz-Expires=604801")) == 403
    assert httpx.put(two, content=b"3").status_code == 403
    refused = Registry(registry.home, registry.database_url, **s3.settings, PACKAGE_URL_EXPIRATION="604801")
    assert "PACKAGE_URL_EXPIRATION" in refused.command("check").stdout
