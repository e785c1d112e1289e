"""The OpenAPI document says what is: requests made up from it get no 500 and no answer that it does not name."""

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
    answer = httpx.get(registry.url + "/api/openapi.json")
    assert answer.headers["content-type"].startswith("application/json")
    document = answer.json()
    assert document["servers"] == [{"url": registry.url}]
    assert document["paths"] == DOCUMENT["paths"]


def test_every_call_is_described() -> None:
    assert len(OPERATIONS) == len(quilt2.routes()) + len(system.routes()) + len(v1.router().route_handlers)
    assert all(operation["summary"].endswith(".") for operation in OPERATIONS.values())


@pytest.fixture(scope="module")
def people(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Person]]:
    """A registry that anything may be done to, and who does it."""
    running = Registry(tmp_path_factory.mktemp("openapi"), new_database(), RATE_LIMITS="off", SIGNUP="open").start()
    yield {"anna": running.make_person("anna"), "ada": running.make_person("ada", is_admin=True)}
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


schema = schemathesis.openapi.from_dict(DOCUMENT)


def send(case: Case, people: dict[str, Person]) -> None:
    """As a member and as an admin, who are signed in anew if they happened to sign out or to disable themselves."""
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


def whatever_is_sent_to(operation: str) -> Callable[..., None]:
    """A test of its own: those of the whole document would share an id."""

    @pytest.mark.slow
    @schema.include(operation_id=operation).parametrize()
    @hypothesis.settings(max_examples=15)
    def test(case: Case, people: dict[str, Person]) -> None:
        send(case, people)

    return test


globals().update({f"test_whatever_is_sent_to_{each}": whatever_is_sent_to(each) for each in OPERATIONS})
