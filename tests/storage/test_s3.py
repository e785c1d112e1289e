"""The object store as a bucket on a real S3-compatible server, and the whole registry on it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import obstore
import pytest

from quilt_registry.errors import Unavailable
from quilt_registry.settings import Settings
from quilt_registry.storage.objects import DigestMismatch, ObjectStore, final_key, staging_key
from tests import trees
from tests.browsers import browser, sign_in
from tests.registry import Person, Registry, download, new_name
from tests.s3server import S3Server
from tests.waiting import wait_until

pytestmark = pytest.mark.s3


def store_of(s3: S3Server, **other: str) -> ObjectStore:
    return ObjectStore(Settings(**{name.lower(): value for name, value in {**s3.settings, **other}.items()}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def registry(
    s3: S3Server, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    running = Registry(tmp_path_factory.mktemp("s3-registry"), new_database(), **s3.settings).start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def anna(registry: Registry) -> Person:
    return registry.make_person("anna")


@pytest.fixture(scope="module")
def carl(registry: Registry) -> Person:
    return registry.make_person("carl")


# ------------------------------------------------------------------------------------------------ the store


@pytest.mark.parametrize(
    "count", [50, pytest.param(3000, marks=pytest.mark.drill)], ids=["asked for one by one", "listed"]
)
def test_uploaded_objects_are_found_with_their_sizes(s3: S3Server, count: int) -> None:
    owner = f"sizes{count}"
    keys = [final_key(owner, trees.sha(b"%d" % i)) for i in range(count)]
    there = {key: i % 5 for i, key in enumerate(keys) if i % 3}

    async def run() -> dict[str, int]:
        await asyncio.gather(*(obstore.put_async(s3.bucket, key, b"x" * size) for key, size in there.items()))
        await obstore.put_async(s3.bucket, final_key(owner + "other", trees.sha(b"0")), b"x")
        return await store_of(s3).sizes(keys)

    assert asyncio.run(run()) == there


def test_objects_below_several_prefixes_are_listed_together(s3: S3Server) -> None:
    owners = [new_name("owner") for _ in range(3)]
    names = [trees.sha(b"%d" % i) for i in range(300)]
    keys = [*(final_key(owner, name) for owner in owners for name in names), staging_key(owners[0], "ben", names[0])]
    there = dict.fromkeys(keys[::7], 1)

    async def run() -> dict[str, int]:
        await asyncio.gather(*(obstore.put_async(s3.bucket, key, b"x") for key in there))
        return await store_of(s3).sizes(keys)

    assert asyncio.run(run()) == there


def test_the_beginning_of_an_object(s3: S3Server) -> None:
    async def run() -> list[bytes | None]:
        await obstore.put_async(s3.bucket, "objs/a/long", b"0123456789")
        await obstore.put_async(s3.bucket, "objs/a/empty", b"")
        return [await store_of(s3).beginning(f"objs/a/{name}", 4) for name in ("long", "empty", "none")]

    assert asyncio.run(run()) == [b"0123", b"", None]


def test_staged_objects_count_only_with_the_right_bytes(s3: S3Server) -> None:
    good, bad, known = trees.sha(b"good"), trees.sha(b"bad"), trees.sha(b"known")
    store = store_of(s3)

    async def run() -> list[str]:
        for name, data in ((good, b"good"), (bad, b"evil"), (known, b"known")):
            await obstore.put_async(s3.bucket, staging_key("olga", "carl", name), data)
        await store.promote("olga", "carl", [good, known], {known})
        with pytest.raises(DigestMismatch) as refused:
            await store.promote("olga", "carl", [bad], set())
        assert refused.value.sha256s == [bad]
        return list(await store.sizes([final_key("olga", name) for name in (good, bad, known)]))

    assert asyncio.run(run()) == [final_key("olga", good)]
    assert not [page for page in obstore.list(s3.bucket, "adopting") if page]


def test_presigned_urls_do_what_old_clients_need(s3: S3Server) -> None:
    key = final_key("urls", trees.sha(b"data"))
    signer = store_of(s3).signer
    (head,), (put,) = signer.upload_urls([key], [key])
    (get,) = signer.urls([key])
    assert httpx.head(head).status_code == 404
    assert httpx.put(put, content=b"data").status_code == 200
    assert httpx.head(head).status_code == 200
    assert download(get, 4) == b"data"
    answer = httpx.get(get, headers={"Range": "bytes=3-"})
    assert (answer.status_code, answer.headers["content-range"], answer.content) == (206, "bytes 3-3/4", b"a")
    assert httpx.get(put).status_code == 403
    assert httpx.get(get.replace(key, final_key("urls", trees.sha(b"more")))).status_code == 403


def test_a_browser_saves_an_attachment(s3: S3Server) -> None:
    key = final_key("urls", trees.sha(b"<script>"))
    obstore.put(s3.bucket, key, b"<script>")
    disposition = "attachment; filename=\"a b.html\"; filename*=UTF-8''a%20b.html"
    url = store_of(s3).attachment_url(key, disposition, 300)
    assert url
    assert "X-Amz-Expires=300&" in url
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["content-disposition"] == disposition
    assert answer.headers["content-type"] == "application/octet-stream"
    assert httpx.get(url.replace("octet-stream", "x-other")).status_code == 403


def test_contents_are_unpacked(s3: S3Server) -> None:
    text = b"0123456789" * 100

    async def run() -> list[bytes | None]:
        packed = {"Content-Encoding": "gzip"}
        await obstore.put_async(s3.bucket, "objs/a/packed", gzip.compress(text), attributes=packed)
        await obstore.put_async(s3.bucket, "objs/a/gzip", gzip.compress(text))
        await obstore.put_async(s3.bucket, "objs/a/none", b"")
        store = store_of(s3)
        return [
            await store.contents("objs/a/packed", 1000, 15),
            await store.contents("objs/a/packed", 1000, 5000),
            (await store.contents("objs/a/gzip", 40, 2) or b""),
            await store.contents("objs/a/none", 0, 5),
            await store.contents("objs/a/missing", 5, 5),
        ]

    assert asyncio.run(run()) == [b"012345678901234", text, b"\x1f\x8b", b"", None]


def test_the_catalog_leads_to_the_bucket(registry: Registry, anna: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"from the bucket"})
    with browser(registry) as client:
        sign_in(client, "anna")
        answer = client.get(f"/package/anna/{name}/download/a")
        page = client.get(f"/package/anna/{name}/files/a")
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert httpx.get(answer.headers["location"]).content == b"from the bucket"
    assert "from the bucket" in page.text


def test_empty_objects_go_up_and_down(s3: S3Server) -> None:
    key = final_key("urls", trees.sha(b""))
    (head,), (put,) = store_of(s3).signer.upload_urls([key], [key])
    assert httpx.put(put, content=b"", headers={"Content-Length": "0"}).status_code == 200
    assert httpx.head(head).status_code == 200
    assert download(store_of(s3).signer.urls([key])[0], 0) == b""


@pytest.mark.parametrize("other", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"S3_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_store_that_refuses_or_is_unreachable_is_reported(s3: S3Server, other: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match="object store does not respond"):
        asyncio.run(store_of(s3, **other).sizes([final_key("a", trees.sha(b"1"))]))


# ------------------------------------------------------------------------------------------------ the registry on it


def test_a_push_goes_to_the_bucket_and_comes_back(s3: S3Server, anna: Person) -> None:
    name, files = new_name(), {"README": b"on S3", "empty": b"", "g": {f"f{i}": b"%d" % i for i in range(200)}}
    top_hash = anna.push(name, files)
    package = anna.install("anna", name, top_hash)
    assert len(package["urls"]) == 202
    assert all(url.startswith(s3.endpoint) for url in package["urls"].values())
    assert anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()["readme_preview"] == "on S3"
    anna.push(name, {**files, "g": {**files["g"], "f7": b"changed"}})  # type: ignore[dict-item]


def test_a_push_whose_objects_are_not_in_the_bucket_is_refused(anna: Person) -> None:
    name, node, data = new_name(), trees.tree({"x": b"never sent", "README": b"nor this"}), [b"never sent", b"nor this"]
    refused = anna.send_push("anna", name, node, sizes=trees.sizes(data))
    assert (refused.status_code, "README" in refused.text) == (403, True)
    anna.upload("anna", name, node, data[1:])
    refused = anna.send_push("anna", name, node, sizes=trees.sizes(data))
    assert (refused.status_code, trees.sha(data[0]) in refused.text) == (400, True)
    anna.upload("anna", name, node, data[:1])
    wrong = {**trees.sizes(data), trees.sha(data[0]): 1}
    assert anna.send_push("anna", name, node, sizes=wrong).status_code == 400
    assert anna.send_push("anna", name, node, sizes=trees.sizes(data)).status_code == 200


def test_a_readme_that_an_old_client_compressed_is_read(s3: S3Server, anna: Person) -> None:
    name, readme = new_name(), b"# Long ago"
    obstore.put(s3.bucket, final_key("anna", trees.sha(readme)), gzip.compress(readme))
    size = {trees.sha(readme): len(gzip.compress(readme))}  # the store's size; an import records the uncompressed size
    assert anna.send_push("anna", name, trees.tree({"README": readme}), sizes=size).status_code == 200
    top_hash = trees.top_hash(trees.tree({"README": readme}))
    shown = anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()
    assert shown["readme_preview"] == readme.decode()


def test_a_parts_push_goes_to_the_bucket_too(anna: Person, carl: Person) -> None:
    name = new_name()
    anna.push(name, {"a": {"old": b"old"}}, is_team=True)
    data = b"by carl, in part"
    answer = carl.push_part(name, "a/new", trees.file(data), [data], owner="anna")
    assert answer.status_code == 200, answer.text
    assert len(anna.install("anna", name, answer.json()["package_hash"])["urls"]) == 2


def test_a_known_objects_upload_url_reaches_nothing_that_counts(anna: Person) -> None:
    name, data = new_name(), b"must stay"
    top_hash = anna.push(name, {"x": data})
    urls = anna.send_push("anna", name, trees.tree({"x": data}), dry_run=True).json()["upload_urls"][trees.sha(data)]
    assert httpx.head(urls["head"]).status_code == 200
    assert httpx.put(urls["put"], content=b"evil").status_code == 200
    anna.install("anna", name, top_hash)


def test_a_member_pushes_what_they_uploaded_and_nothing_else(anna: Person, carl: Person) -> None:
    name, secret = new_name(), b"only anna's"
    anna.push(new_name(), {"x": secret})
    anna.push(name, {"x": b"shared"}, is_team=True)
    node = trees.tree({"y": secret})
    urls = carl.send_push("anna", name, node, dry_run=True).json()["upload_urls"][trees.sha(secret)]
    assert httpx.head(urls["head"]).status_code == 404
    refused = carl.send_push("anna", name, node, sizes=trees.sizes([secret]))
    assert (refused.status_code, trees.sha(secret) in refused.text) == (400, True)
    httpx.put(urls["put"], content=b"only evil's")  # same length as the secret
    refused = carl.send_push("anna", name, node, sizes=trees.sizes([secret]))
    assert (refused.status_code, trees.sha(secret) in refused.text) == (400, True)
    top_hash = carl.push(name, {"new": b"by carl"}, owner="anna")
    carl.install("anna", name, top_hash)
    httpx.put(urls["put"], content=secret)
    assert carl.send_push("anna", name, node, sizes=trees.sizes([secret])).status_code == 200


@pytest.mark.parametrize("is_promoted", [True, False], ids=["promoted", "lost"])
def test_staged_uploads_that_are_removed_during_a_push(
    s3: S3Server, local_registry: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch, is_promoted: bool
) -> None:
    """Another push of the same uploads has promoted them, or the bucket has lost them."""
    registry = local_registry(**s3.settings)
    owner, member = registry.make_person(new_name("owner")), registry.make_person(new_name("member"))
    data, promote = new_name("staged").encode(), ObjectStore.promote
    node = trees.tree({"x": data})
    for name in ("p", "q"):
        owner.push(name, {"old": b"old"}, is_team=True)
    member.upload(owner.name, "p", node, [data])
    answers: list[httpx.Response] = []

    def push(name: str) -> None:
        answers.append(member.send_push(owner.name, name, node, sizes=trees.sizes([data])))

    async def promote_later(*arguments: Any) -> None:
        monkeypatch.setattr(ObjectStore, "promote", promote)
        if is_promoted:
            await asyncio.to_thread(push, "q")
        else:
            await obstore.delete_async(s3.bucket, staging_key(owner.name, member.name, trees.sha(data)))
        await promote(*arguments)

    monkeypatch.setattr(ObjectStore, "promote", promote_later)
    push("p")
    assert [answer.status_code for answer in answers] == ([200, 200] if is_promoted else [400])
    if not is_promoted:
        assert f"These objects were not uploaded: {trees.sha(data)}." in answers[0].text


def test_a_damaged_object_is_noticed_reported_and_uploaded_again(
    s3: S3Server, local_registry: Callable[..., Registry]
) -> None:
    """The object is removed before it is marked; otherwise a concurrent push would find it, count it, and lose it."""
    registry = local_registry(**s3.settings)
    dora = registry.make_person("dora")
    data = b"will be damaged"
    top_hash = dora.push("fragile", {"x": data, "y": b"fine"})
    damaged, is_it = final_key("dora", trees.sha(data)), f"digest = '\\x{trees.sha(data)}'"
    obstore.put(s3.bucket, damaged, b"something else!")
    registry.sql("UPDATE object SET created_at = now() - interval '2 days'")
    registry.stop()
    path = f"/api/package/dora/fragile/{top_hash}"
    with registry.left_open(f"SELECT FROM object WHERE {is_it} FOR SHARE"):  # so that it cannot be marked
        registry.start()  # a verification round begins at the start
        wait_until(lambda: not asyncio.run(store_of(s3).sizes([damaged])))
        assert dora.get(path).status_code == 200
    wait_until(lambda: dora.get(path).status_code != 200)
    answer = dora.get(path)
    assert (answer.status_code, trees.sha(data) in answer.json()["message"]) == (409, True)
    assert dora.get(path, params={"subpath": "y"}).status_code == 200
    dora.push("fragile", {"x": data, "y": b"fine"})
    dora.install("dora", "fragile", top_hash)
    ((is_new,),) = registry.sql(f"SELECT created_at > now() - interval '1 hour' FROM object WHERE {is_it}")
    assert is_new, "verified before the URL of its upload has expired"


@pytest.mark.parametrize("contents", [None, b"shorter"], ids=["lost", "cut"])
def test_a_known_object_that_the_bucket_lost_is_uploaded_again(
    s3: S3Server, anna: Person, contents: bytes | None
) -> None:
    """HEAD on the final key says that it is gone. The upload goes to a staging key, and the push promotes it."""
    data = new_name("lost").encode() + b" from the bucket"
    files = {"x": data, "y": b"fine"}
    name, key = new_name(), final_key("anna", trees.sha(data))
    top_hash = anna.push(name, files)
    obstore.delete(s3.bucket, key)
    urls = anna.send_push("anna", name, trees.tree(files), dry_run=True).json()["upload_urls"][trees.sha(data)]
    if contents is not None:  # a size that HEAD does not see, so that only --reupload helps
        obstore.put(s3.bucket, key, contents)
        assert httpx.put(urls["put"], content=data).status_code == 200
    assert anna.push(name, files) == top_hash
    anna.install("anna", name, top_hash)
    assert not [page for page in obstore.list(s3.bucket, staging_key("anna", "anna", "")) if page]


def test_an_upload_that_went_wrong_is_uploaded_again(s3: S3Server, anna: Person) -> None:
    """The bucket answers HEAD for whatever lies there. The push reads it, removes it, and asks to push again."""
    data, node = b"went up in pieces", trees.tree({"x": b"went up in pieces"})
    obstore.put(s3.bucket, final_key("anna", trees.sha(data)), b"went")
    refused = anna.send_push("anna", "pieces", node, sizes=trees.sizes([data]))
    assert (refused.status_code, "Push again." in refused.text) == (400, True)
    anna.install("anna", "pieces", anna.push("pieces", {"x": data}))


def test_deep_verification_deletes_damage_and_knows_old_clients_gzip(
    s3: S3Server, local_registry: Callable[..., Registry]
) -> None:
    registry = local_registry(**s3.settings)
    gina = registry.make_person("gina")
    top_hash = gina.push("fragile", {"x": b"will change", "y": b"packed long ago " * 9})
    changed, packed = (final_key("gina", trees.sha(data)) for data in (b"will change", b"packed long ago " * 9))
    obstore.put(s3.bucket, changed, b"has changed")
    gzipped = gzip.compress(b"packed long ago " * 9)
    obstore.put(s3.bucket, packed, gzipped, attributes={"Content-Encoding": "gzip"})
    done = registry.command("verify-objects", "--deep", "--owner", "gina")
    assert (done.returncode, "Deleted: 1 damaged objects." in done.stdout) == (5, True), done.stdout
    assert f"{changed} does not match its SHA-256 (gina/fragile)" in done.stdout
    assert asyncio.run(store_of(s3).sizes([changed, packed])) == {packed: len(gzipped)}
    assert gina.get(f"/api/package/gina/fragile/{top_hash}").status_code == 409
    assert gina.push("fragile", {"x": b"will change", "y": b"packed long ago " * 9}) == top_hash
    assert registry.command("verify-objects", "--deep", "--owner", "gina").returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [{"S3_INTERNAL_ENDPOINT": "http://127.0.0.1:9"}, {"AWS_SECRET_ACCESS_KEY": "wrong"}],
    ids=["away", "refuses"],
)
def test_a_registry_says_that_the_store_does_not_answer(
    local_registry: Callable[..., Registry], s3: S3Server, wrong: dict[str, str]
) -> None:
    registry = local_registry(**{**s3.settings, **wrong})
    person = registry.make_person("zoe")
    answer = person.send_push("zoe", "x", trees.tree({"x": b"1"}), sizes=trees.sizes([b"1"]))
    assert answer.status_code == 503
    assert "object store does not respond" in answer.json()["message"]
    assert person.get("/api/package/zoe/").json() == {"packages": []}
    checked = registry.command("check")
    assert checked.returncode == 1
    assert "store     failed: The object store does not respond" in checked.stdout
    assert "S3_ENDPOINT" in checked.stdout
    assert all(secret not in checked.stdout + answer.text for secret in (s3.secret_key, "X-Amz-Signature"))


def test_check_finds_the_bucket_in_order(registry: Registry) -> None:
    checked = registry.command("check")
    assert checked.returncode == 0, checked.stdout
    assert "store     ok: bucket packages" in checked.stdout


def test_readiness_includes_the_bucket(
    local_registry: Callable[..., Registry], s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    def readiness(registry: Registry) -> httpx.Response:
        return httpx.get(registry.url + "/readyz", timeout=10)

    ready = readiness(local_registry(**s3.settings))
    assert (ready.status_code, ready.json()) == (200, {"database": "ok", "store": "ok", "migrations": "ok"})
    wrong = (
        {"PACKAGE_BUCKET_NAME": "no-such-bucket"},
        {"AWS_SECRET_ACCESS_KEY": "planted-wrong-secret"},
        {"S3_ENDPOINT": "http://127.0.0.1:9"},
    )
    for each in wrong:
        caplog.clear()
        answer = readiness(local_registry(**{**s3.settings, **each}))
        parts = answer.json()
        assert (answer.status_code, parts["database"]) == (503, "ok")
        assert parts["store"].startswith("The object store ")
        assert "Not ready: The object store" in caplog.text
        assert "planted" not in caplog.text + answer.text
