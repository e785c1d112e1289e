"""What holds for every call of our own API."""

from __future__ import annotations

from tests.registry import Person, new_name


def test_refusals_of_new_calls_have_a_code(anna: Person, ada: Person, nobody: Person) -> None:
    machine = anna.post("/api/v1/tokens", json={"name": new_name("token"), "read_only": True}).json()["token"]
    reader = Person(anna.registry, "anna", machine)
    body = {"name": new_name("token")}
    anna.post("/api/v1/tokens", json=body).raise_for_status()
    answers = {
        "sign_in_needed": nobody.get("/api/v1/audit"),
        "forbidden": reader.post("/api/v1/tokens", json=body),
        "invalid": anna.post("/api/v1/tokens", json={}),
        "conflict": anna.post("/api/v1/tokens", json=body),
        "not_found": anna.get("/api/v1/nothing"),
        "method_not_allowed": ada.delete("/api/v1/audit"),
        "too_large": anna.post("/api/v1/tokens", json={"name": "x" * 1_000_000}),
    }
    for code, answer in answers.items():
        assert answer.json().keys() == {"message", "code"}
        assert answer.json()["code"] == code


def test_refusals_of_other_calls_have_none(anna: Person, nobody: Person) -> None:
    for answer in (nobody.get("/api/me"), anna.get("/api/nothing"), anna.get("/api/tag/anna/nothing/x")):
        assert answer.json().keys() == {"message"}
