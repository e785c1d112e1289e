"""HTTP clients that stand for browsers, signed in or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry


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
def carls_browser(registry: Registry, carl: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, "carl").status_code == 303
        yield client


@pytest.fixture(scope="module")
def bens_browser(registry: Registry, ben: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, "ben").status_code == 303
        yield client
