"""Rules for every route of the v1 API."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.registry import Person, new_name


def test_refusals_of_new_calls_have_a_code(anna: Person, ada: Person, nobody: Person) -> None:
    machine = anna.post("/api/v1/tokens", json={"name": new_name("token"), "read_only": True}).json()["token"]
    reader = Person(anna.registry, "anna", machine)
    body = {"name": new_name("token")}
    anna.post("/api/v1/tokens", json=body).raise_for_status()
    responses = {
        "sign_in_needed": nobody.get("/api/v1/audit"),
        "forbidden": reader.post("/api/v1/tokens", json=body),
        "invalid": anna.post("/api/v1/tokens", json={}),
        "conflict": anna.post("/api/v1/tokens", json=body),
        "not_found": anna.get("/api/v1/nothing"),
        "method_not_allowed": ada.delete("/api/v1/audit"),
        "too_large": anna.post("/api/v1/tokens", json={"name": "x" * 1_000_000}),
    }
    for code, response in responses.items():
        assert response.json().keys() == {"message", "code"}
        assert response.json()["code"] == code


def test_refusals_of_other_calls_have_none(anna: Person, nobody: Person) -> None:
    for response in (nobody.get("/api/me"), anna.get("/api/nothing"), anna.get("/api/tag/anna/nothing/x")):
        assert response.json().keys() == {"message"}


JSON = {"Content-Type": "application/json"}
GZIP = {**JSON, "Content-Encoding": "gzip"}


def test_a_body_may_be_gzipped(anna: Person) -> None:
    body = json.dumps({"name": new_name("token")}).encode()
    response = anna.post("/api/v1/tokens", content=gzip.compress(body), headers=GZIP)
    assert (response.status_code, response.headers["cache-control"]) == (200, "private, no-store")


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b'{"name": "x"}', {"Content-Type": "text/plain"}, 400, "must be JSON"),
        (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}, 400, "must be JSON"),
        (b"{}", {**JSON, "Content-Encoding": "br"}, 400, "Unsupported content encoding: br"),
        (b"no gzip", GZIP, 400, "not valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-4], GZIP, 400, "not valid gzip"),
        (gzip.compress(b" " * 2_000_000, mtime=0), GZIP, 413, "limit of 160,000 bytes"),
        (b" " * 160_001, JSON, 413, "limit of 160,000 bytes"),
        (b"[" * 100_000, JSON, 400, "nested too deeply"),
        (gzip.compress(b'{"name":' + b"[" * 100_000, mtime=0), GZIP, 400, ""),
        (b'{"name": "x"', JSON, 400, ""),
        (b"\xff", JSON, 400, ""),
        (b"", JSON, 400, ""),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(
    anna: Person, content: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    response = anna.post("/api/v1/tokens", content=content, headers=headers)
    assert response.status_code == status, response.text
    assert message in response.json()["message"]
    assert response.json()["code"] == {400: "invalid", 413: "too_large"}[status]
