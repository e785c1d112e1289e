"""Rules for every route of the v1 API."""

from __future__ import annotations

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
