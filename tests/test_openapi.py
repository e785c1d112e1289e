"""The OpenAPI document is accurate: requests generated from it get no 500 and no undocumented response."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

from quilt_registry.api import quilt2, system, v1
from tests import openapi
from tests.registry import Person, Registry

DOCUMENT = openapi.document()
OPERATIONS = {
    operation["operationId"]: operation
    for item in DOCUMENT["paths"].values()
    for key, operation in item.items()
    if key != "parameters"
}
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance, ignored_auth,
]  # fmt: skip


def test_it_is_served(registry: Registry) -> None:
    response = httpx.get(registry.url + "/api/openapi.json")
    assert response.headers["content-type"].startswith("application/json")
    document = response.json()
    assert document["servers"] == [{"url": registry.url}]
    assert document["paths"] == DOCUMENT["paths"]


def test_every_call_is_described() -> None:
    generated = [handler for route in v1.router().routes for handler in route.route_handlers]  # type: ignore[union-attr]
    calls = sum("who" in handler.opt for handler in generated)
    assert len(OPERATIONS) == len(quilt2.ROUTES) + len(system.ROUTES) + calls


@pytest.mark.parametrize("id", OPERATIONS)
def test_a_summary_is_one_sentence(id: str) -> None:
    summary = OPERATIONS[id]["summary"]
    assert summary[0].isupper()
    assert summary.endswith(".")
    assert ". " not in summary
    for parameter in OPERATIONS[id]["parameters"]:
        assert parameter["description"].endswith("."), parameter["name"]


def test_schemas_have_names_of_their_own() -> None:
    """If two types had the same name, the generator would prefix both with their module names."""
    assert [name for name in DOCUMENT["components"]["schemas"] if not name.isalnum()] == []


@pytest.fixture(scope="module")
def people(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Person]]:
    """A member and an admin of a registry that no other test uses."""
    running = Registry(tmp_path_factory.mktemp("openapi"), new_database(), RATE_LIMITS="off", SIGNUP="open").start()
    yield {"anna": running.make_person("anna"), "ada": running.make_person("ada", is_admin=True)}
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


schema = schemathesis.openapi.from_dict(DOCUMENT)


def send(case: Case, people: dict[str, Person]) -> None:
    """Send a request as a member and as an admin. Sign them in again if an earlier request ended their session."""
    for name, person in people.items():
        if person.get("/api/me").status_code != 200:
            person.registry.sql(
                "UPDATE account SET is_active = true, is_admin = $2, password = "
                "(SELECT password FROM account WHERE name = 'anna') WHERE name = $1",
                name,
                name == "ada",
            )
            people[name] = person = person.registry.sign_in(name)
        case.call_and_validate(
            base_url=person.registry.url, headers={"Authorization": f"Bearer {person.token}"}, checks=CHECKS, timeout=30
        )


def generated_requests_to(operation: str) -> Callable[..., None]:
    """Return a test of one operation, because those of the whole document would share an id."""

    @pytest.mark.drill
    @schema.include(operation_id=operation).parametrize()
    @hypothesis.settings(max_examples=15)
    def test(case: Case, people: dict[str, Person]) -> None:
        send(case, people)

    return test


globals().update({f"test_generated_requests_to_{each}": generated_requests_to(each) for each in OPERATIONS})
