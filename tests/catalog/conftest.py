"""HTTP clients that stand for browsers, signed in or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry, new_name


@pytest.fixture
def visitor(registry: Registry) -> Iterator[Browser]:
    """A browser without a session."""
    with browser(registry) as client:
        yield client


@pytest.fixture(scope="module")
def annas_browser(registry: Registry, anna: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, "anna").status_code == 303
        yield client


@pytest.fixture(scope="module")
def bens_browser(registry: Registry, ben: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, "ben").status_code == 303
        yield client


@pytest.fixture(scope="module")
def carls_browser(registry: Registry, carl: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, "carl").status_code == 303
        yield client


@pytest.fixture
def unpushed(registry: Registry, anna: Person) -> str:
    """A package of Anna's whose first push is not complete."""
    name = new_name()
    made = "INSERT INTO package (owner_id, owner, name) SELECT id, name, $2 FROM account WHERE name = $1"
    registry.sql(made, anna.name, name)
    registry.sql("INSERT INTO access SELECT id, owner FROM package WHERE owner = $1 AND name = $2", anna.name, name)
    return name
