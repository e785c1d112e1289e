"""Objects in a directory, over presigned URLs: exactly what released clients require of a store (protocol §8)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from quilt_registry.storage import directory
from quilt_registry.storage.directory import Directory
from quilt_registry.storage.signed_urls import LocalSigner
from quilt_registry.web import request_bodies
from tests.registry import Person, Registry, download, new_name
from tests.trees import file, root, sha
from tests.waiting import wait_until

DATA = bytes(range(256)) * 4


def signer(registry: Registry, lifetime: int = 3600) -> LocalSigner:
    """Return a signer with the registry's secret, which tests know."""
    key = hashlib.sha256(b"objects " + registry.environment["QUILT_SECRET_KEY"].encode()).digest()
    return LocalSigner(registry.url, key, lifetime)


def put_url(registry: Registry, key: str) -> str:
    ((url,), _) = signer(registry).upload_urls([key], [key])
    return url


def get_url(registry: Registry, key: str) -> str:
    return signer(registry).urls([key])[0]


def new_object(prefix: str = "") -> tuple[str, bytes]:
    """Return a key of Anna's, and bytes that no other test uses."""
    data = new_name(prefix).encode() + DATA
    return f"objs/anna/{sha(data)}", data


def leftovers(registry: Registry) -> list[Path]:
    return list((registry.objects / "uploads").iterdir())


@pytest.fixture
def stored(registry: Registry) -> tuple[str, bytes]:
    """The key and bytes of a stored object."""
    key, data = new_object()
    assert httpx.put(put_url(registry, key), content=data).status_code == 200
    return key, data


# ------------------------------------------------------------------------------------------------ uploads


def test_an_upload_is_requested_sent_and_found(registry: Registry) -> None:
    key, data = new_object()
    url = put_url(registry, key)
    assert httpx.head(url).status_code == 404
    assert httpx.put(url, content=data).status_code == 200
    answer = httpx.head(url)
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(data)))
    assert (registry.objects / key).read_bytes() == data
    assert httpx.put(url, content=data).status_code == 200  # --reupload
    assert not leftovers(registry)


def test_the_urls_of_a_push_do_the_same(registry: Registry, anna: Person) -> None:
    _, data = new_object()
    answer = anna.send_push("anna", new_name(), root({"f": file(data)}), dry_run=True)
    urls = answer.json()["upload_urls"][sha(data)]
    assert httpx.head(urls["head"]).status_code == 404
    assert httpx.put(urls["put"], content=data).status_code == 200
    assert httpx.head(urls["head"]).status_code == 200


def test_a_body_without_a_length_is_taken(registry: Registry) -> None:
    key, data = new_object()
    assert httpx.put(put_url(registry, key), content=iter([data[:100], data[100:]])).status_code == 200
    assert (registry.objects / key).read_bytes() == data


def test_an_empty_object_is_an_object(registry: Registry) -> None:
    key = f"objs/{new_name('owner')}/{sha(b'')}"
    url = put_url(registry, key)
    assert httpx.head(url).status_code == 404
    answer = httpx.put(url, content=b"", headers={"Content-Length": "0"})
    assert answer.status_code == 200
    assert httpx.head(url).status_code == 200
    assert download(get_url(registry, key), 0) == b""


@pytest.mark.parametrize("sent", [b"", b"other bytes", DATA[:-1], DATA + b"x"])
def test_other_bytes_than_the_urls_are_refused_and_gone(registry: Registry, sent: bytes) -> None:
    key = f"objs/{new_name('owner')}/{sha(DATA)}"
    answer = httpx.put(put_url(registry, key), content=sent)
    assert answer.status_code == 400
    assert sha(sent) in answer.json()["message"]
    assert sha(DATA) in answer.json()["message"]
    assert httpx.head(put_url(registry, key)).status_code == 404
    assert not leftovers(registry)


def test_an_object_that_is_there_cannot_be_replaced(registry: Registry, stored: tuple[str, bytes]) -> None:
    key, data = stored
    assert httpx.put(put_url(registry, key), content=b"evil").status_code == 400
    assert download(get_url(registry, key), len(data)) == data


def test_bytes_that_are_encoded_are_refused(registry: Registry) -> None:
    key, data = new_object()
    answer = httpx.put(put_url(registry, key), content=data, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert "Content-Encoding" in answer.json()["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_is_cut_off_leaves_nothing(registry: Registry, chunked: bool) -> None:
    data = new_name().encode() + bytes(3_000_000)
    key = f"objs/anna/{sha(data)}"
    target = urlsplit(put_url(registry, key))
    kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
    with socket.create_connection(("127.0.0.1", registry.port)) as connection:
        connection.sendall(f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n".encode())
        connection.sendall((b"%x\r\n" % len(data) if chunked else b"") + data[:2_500_000])
        wait_until(lambda: leftovers(registry))
    wait_until(lambda: not leftovers(registry))
    assert httpx.head(put_url(registry, key)).status_code == 404


def test_two_uploads_of_one_object_at_once_are_both_fine(registry: Registry) -> None:
    data = new_name().encode() + os.urandom(2_000_000)
    url = put_url(registry, f"objs/anna/{sha(data)}")
    found: list[int] = []
    uploads = [
        threading.Thread(target=lambda: found.append(httpx.put(url, content=data).status_code)) for _ in range(4)
    ]
    for each in uploads:
        each.start()
    for each in uploads:
        each.join()
    assert found == [200] * 4
    assert not leftovers(registry)


@pytest.mark.parametrize("with_length", [True, False])
def test_an_object_has_a_largest_size(local_registry: Callable[..., Registry], with_length: bool) -> None:
    registry = local_registry(MAX_OBJECT_BYTES="1000000")
    data = os.urandom(1_000_001)
    for content, status in ((data, 413), (data[1:], 200)):
        key = f"objs/anna/{sha(content)}"
        pieces = (content[i : i + 100_000] for i in range(0, len(content), 100_000))
        answer = httpx.put(put_url(registry, key), content=content if with_length else pieces)
        assert answer.status_code == status
        assert status == 200 or "at most 1,000,000 bytes" in answer.json()["message"]
        assert (registry.objects / key).exists() == (status == 200)
        assert not leftovers(registry)


def test_a_length_that_is_too_large_is_refused_before_the_body(registry: Registry) -> None:
    key, _ = new_object()
    answer = _raw(registry, "PUT", put_url(registry, key).removeprefix(registry.url), length=10**12)
    assert answer == 413


@pytest.mark.parametrize("with_length", [True, False])
def test_uploads_leave_a_reserve_of_the_disk(
    local_registry: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch, with_length: bool
) -> None:
    registry = local_registry()
    key, data = new_object()
    content = data if with_length else iter([data])
    disk = shutil.disk_usage(registry.objects)
    monkeypatch.setattr(directory, "RESERVED_BYTES", disk.total)
    monkeypatch.setattr(directory, "RESERVED_SHARE", 1)
    answer = httpx.put(put_url(registry, key), content=content)
    assert (answer.status_code, "no space" in answer.json()["message"]) == (507, True)
    assert not leftovers(registry)
    assert httpx.get(registry.url + "/readyz").json()["store"] != "ok"
    monkeypatch.undo()
    assert httpx.put(put_url(registry, key), content=data).status_code == 200


def test_an_upload_that_trickles_is_ended_and_leaves_nothing(
    local_registry: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = local_registry()
    key, data = f"objs/anna/{sha(bytes(3_000_000))}", bytes(3_000_000)
    target = put_url(registry, key).removeprefix(registry.url)
    with socket.create_connection(("127.0.0.1", registry.port), timeout=30) as connection:
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[:2_000_000])
        wait_until(lambda: leftovers(registry))
        monkeypatch.setattr(request_bodies, "MAX_WAIT", 0.1)
        connection.sendall(data[:50_000])  # so that the registry begins to wait anew
        assert connection.recv(100).split()[1] == b"408"
    wait_until(lambda: not leftovers(registry))
    assert not (registry.objects / key).exists()


def test_new_directories_are_synced_with_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a power failure does not take the folder of a new owner with the objects in it."""
    synced: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    store = Directory(tmp_path / "home" / "objects")
    store.prepare()
    asyncio.run(store.receive(f"objs/anna/{sha(b'1')}", _chunks(b"1"), 1, 100))
    store.fsync("objs/anna")
    created = ["home", "home/objects", "home/objects/uploads", "home/objects/objs", "home/objects/objs/anna"]
    assert {str((tmp_path / each).parent) for each in created} <= set(synced)
    assert synced[-2:] == [f"{store.root}/objs/anna", f"{store.root}/objs"]


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


# ------------------------------------------------------------------------------------------------ downloads


def test_without_a_range_all_is_sent(registry: Registry, stored: tuple[str, bytes]) -> None:
    key, data = stored
    answer = httpx.get(get_url(registry, key))
    assert (answer.status_code, answer.content) == (200, data)
    assert "content-range" not in answer.headers
    assert "content-encoding" not in answer.headers
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("range_", "first", "last"),
    [
        ("bytes=0-", 0, None),
        ("bytes=1-", 1, None),
        ("bytes=-1", -1, None),
        ("bytes=-100", -100, None),
        ("bytes=-999999", 0, None),
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10-999999", 10, None),
    ],
)
def test_a_range_is_answered_with_206_and_its_exact_place(
    registry: Registry, stored: tuple[str, bytes], range_: str, first: int, last: int | None
) -> None:
    key, data = stored
    start = first if first >= 0 else len(data) + first
    end = len(data) - 1 if last is None else last
    answer = httpx.get(get_url(registry, key), headers={"Range": range_})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(data)}"
    assert answer.headers["content-length"] == str(end - start + 1)
    assert answer.content == data[start : end + 1]


def test_the_last_byte_is_a_range_too(registry: Registry, stored: tuple[str, bytes]) -> None:
    """A client that has all but the last byte requests it to verify the object."""
    key, data = stored
    answer = httpx.get(get_url(registry, key), headers={"Range": f"bytes={len(data) - 1}-"})
    assert answer.headers["content-range"] == f"bytes {len(data) - 1}-{len(data) - 1}/{len(data)}"
    assert answer.content == data[-1:]


@pytest.mark.parametrize("range_", ["bytes=999999-", "bytes=999999-9999999", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(registry: Registry, stored: tuple[str, bytes], range_: str) -> None:
    key, data = stored
    answer = httpx.get(get_url(registry, key), headers={"Range": range_})
    assert answer.status_code == 416
    assert str(len(data)) in answer.json()["message"]
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize("range_", ["bytes=5-2", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "nonsense", "bytes=a-b"])
def test_a_range_that_means_nothing_is_ignored(registry: Registry, stored: tuple[str, bytes], range_: str) -> None:
    key, data = stored
    answer = httpx.get(get_url(registry, key), headers={"Range": range_})
    assert (answer.status_code, answer.content) == (200, data)


def test_a_range_goes_on_only_with_the_same_object(registry: Registry, stored: tuple[str, bytes]) -> None:
    """`If-Range` (RFC 9110 §13.1.5): with another validator than the object's, all of it is sent."""
    key, data = stored
    url = get_url(registry, key)
    etag = httpx.get(url).headers["etag"]
    for validator, status in (
        (etag, 206),
        (f"W/{etag}", 200),
        ('"other"', 200),
        (etag.strip('"'), 200),
        ("Mon, 23 Nov 2026 10:00:00 GMT", 200),
        ("", 200),
    ):
        answer = httpx.get(url, headers={"Range": "bytes=5-", "If-Range": validator})
        assert (answer.status_code, answer.content) == (status, data[5:] if status == 206 else data)
    assert httpx.get(url, headers={"If-Range": etag}).status_code == 200


def test_no_proxy_stores_urls_or_changes_objects(registry: Registry, anna: Person, stored: tuple[str, bytes]) -> None:
    for answer in (httpx.get(get_url(registry, stored[0])), httpx.head(put_url(registry, stored[0]))):
        assert "no-transform" in answer.headers["cache-control"]
    name, files = new_name(), {"README": b"text", "x": b"1"}
    top_hash = anna.push(name, files)
    signed = [
        anna.get(f"/api/package/anna/{name}/{top_hash}"),
        anna.get(f"/api/package_preview/anna/{name}/{top_hash}"),
        anna.send_push("anna", name, root({"f": file(b"1")}), dry_run=True),
        anna.post("/api/get_objects", json=[sha(b"1")]),
    ]
    for answer in signed:
        assert "/objects/objs/anna/" in answer.text
        assert answer.headers["cache-control"] == "private, no-store"


def test_a_missing_object_is_404(registry: Registry) -> None:
    key, _ = new_object()
    for answer in (httpx.get(get_url(registry, key)), httpx.head(get_url(registry, key))):
        assert answer.status_code == 404
    assert httpx.get(get_url(registry, key)).json()["message"]


def test_browsers_do_not_run_what_users_pushed(registry: Registry, stored: tuple[str, bytes]) -> None:
    headers = httpx.get(get_url(registry, stored[0])).headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == "attachment"
    assert "sandbox" in headers["content-security-policy"]


# ------------------------------------------------------------------------------------------------ signatures


def _changed(url: str, path: Callable[[str], str] = str, **query: str) -> str:
    parts = urlsplit(url)
    values = {name: values[0] for name, values in parse_qs(parts.query).items()}
    values = {name: value for name, value in {**values, **query}.items() if value}
    return urlunsplit(parts._replace(path=path(parts.path), query=urlencode(values)))


def _refused(answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert answer.json()["message"]


def test_a_url_expires(registry: Registry, stored: tuple[str, bytes]) -> None:
    key, data = stored
    past = signer(registry, lifetime=-1)
    _refused(httpx.get(past.urls([key])[0]))
    (url,), _ = past.upload_urls([key], [key])
    _refused(httpx.put(url, content=data))
    assert httpx.head(url).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        {"until": "9999999999"},
        {"until": "99999999999999999999"},
        {"until": "-1"},
        {"until": "\u0661"},
        {"until": "x"},
        {"until": ""},
        {"signature": "A" * 43},
        {"signature": "é"},
        {"signature": ""},
        {"for": "put"},
        {"for": ""},
        {"path": "key"},
        {"path": "owner"},
    ],
    ids=str,
)
def test_a_url_that_was_changed_is_refused(
    registry: Registry, stored: tuple[str, bytes], change: dict[str, str]
) -> None:
    other, _ = new_object()
    assert httpx.put(put_url(registry, other), content=_).status_code == 200
    url = get_url(registry, stored[0])
    paths = {"key": lambda path: f"/objects/{other}", "owner": lambda path: path.replace("anna", "ben")}
    changed = _changed(url, paths.get(change.get("path", ""), str), **{n: v for n, v in change.items() if n != "path"})
    _refused(httpx.get(changed))
    assert httpx.get(url).status_code == 200


def test_another_registrys_signature_is_refused(registry: Registry, stored: tuple[str, bytes]) -> None:
    other = LocalSigner(registry.url, b"another secret", 3600)
    _refused(httpx.get(other.urls([stored[0]])[0]))


def test_a_url_is_for_one_method(registry: Registry, stored: tuple[str, bytes]) -> None:
    key, data = stored
    _refused(httpx.put(get_url(registry, key), content=data))
    _refused(httpx.get(put_url(registry, key)))
    assert httpx.head(get_url(registry, key)).status_code == 200
    for method in ("DELETE", "POST", "PATCH"):
        assert httpx.request(method, put_url(registry, key)).status_code in (403, 405)
    assert (registry.objects / key).read_bytes() == data


def test_without_a_signature_nothing_is_disclosed(registry: Registry, stored: tuple[str, bytes]) -> None:
    for key in (stored[0], new_object()[0], "objs/nobody", "uploads/x", "x"):
        answer = httpx.get(f"{registry.url}/objects/{key}")
        _refused(answer)
        assert answer.json() == httpx.get(f"{registry.url}/objects/{stored[0]}").json()


@pytest.mark.parametrize(
    "key",
    [
        "../secret",
        "objs/../../serve.log",
        "objs/anna/../../../serve.log",
        "objs/anna/" + "a" * 63,
        "objs/anna/" + "a" * 65,
        "objs/anna/" + "A" * 64,
        "objs//" + "a" * 64,
        "objs/Anna/" + "a" * 64,
        "uploads/" + "a" * 64,
        "objs/anna/" + "a" * 64 + "\n",
        "objs/anna/x/" + "a" * 64,
        "staging/anna/" + "a" * 64,
    ],
)
def test_only_objects_have_urls_even_if_the_registry_signed_them(registry: Registry, key: str) -> None:
    """No handler should ever sign such a key. Even if one did, the directory must not open it."""
    before = sorted(registry.home.rglob("*"))
    quoted = key.replace("\n", "%0A")
    until = int(time.time()) + 600
    for method, use in (("GET", "get"), ("PUT", "put")):
        query = f"for={use}&until={until}&signature={signer(registry).signature(use, key, until)}"
        answer = _raw(registry, method, f"/objects/{quoted}?{query}")
        assert answer in (400, 403, 404), answer
    assert sorted(registry.home.rglob("*")) == before


def _raw(registry: Registry, method: str, target: str, length: int | None = None) -> int:
    """Return the status of a request whose path no client has normalized, and whose length may not be true."""
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as connection:
        body = "x" if method == "PUT" else ""
        length = len(body) if length is None else length
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        connection.sendall(head.encode())
        return int(connection.recv(100).split()[1])


# ------------------------------------------------------------------------------------------------ memory


@pytest.mark.slow
def test_large_objects_cost_little_memory(own_registry: Callable[..., Registry]) -> None:
    """Upload and download 150 MB; the serving process grows by less than 60 MB."""
    registry = own_registry()
    blocks = [os.urandom(1 << 20) for _ in range(10)]
    length = 150
    digest = hashlib.sha256()
    for i in range(length):
        digest.update(blocks[i % 10])
    key = f"objs/anna/{digest.hexdigest()}"

    def chunks() -> Iterator[bytes]:
        for i in range(length):
            yield blocks[i % 10]

    before = _memory(registry)
    headers = {"Content-Length": str(length << 20)}
    answer = httpx.put(put_url(registry, key), content=chunks(), headers=headers, timeout=120)
    assert answer.status_code == 200
    after_upload = _peak(registry)
    again = hashlib.sha256()
    with httpx.stream("GET", get_url(registry, key), headers={"Range": "bytes=0-"}, timeout=120) as download:
        assert download.status_code == 206
        for chunk in download.iter_raw(1 << 20):
            again.update(chunk)
    assert again.hexdigest() == digest.hexdigest()
    assert after_upload - before < 60_000, "memory grew during the upload"
    assert _peak(registry) - before < 60_000, "memory grew during the download"
    (registry.objects / key).unlink()


def _memory(registry: Registry, line: str = "VmRSS") -> int:
    """Return the memory of the serving process in kilobytes."""
    assert registry.process is not None
    status = Path(f"/proc/{registry.process.pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0])


def _peak(registry: Registry) -> int:
    return _memory(registry, "VmHWM")
