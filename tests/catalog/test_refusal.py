"""Error pages."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.browsers import browser, sign_in
from tests.registry import LocalRegistry


def test_a_missing_page_offers_to_search_for_its_name(annas_browser: httpx.Client) -> None:
    text = annas_browser.get("/package/anna/<b>oryx").text
    assert '<h1 class="large">Nothing here</h1>' in text
    assert "It may be private or deleted." in text
    assert 'value="&lt;b&gt;oryx"' in text
    assert "<title>Not found · local</title>" in text


def test_a_failure_has_an_id_and_says_whom_to_write_to(local_registry: Callable[..., LocalRegistry]) -> None:
    registry = local_registry(SUPPORT_EMAIL="help@acme.example", TEAM_ID="")
    with browser(registry) as visitor:
        registry.sql("ALTER TABLE package RENAME TO lost")
        response = visitor.get("/search")
    assert response.status_code == 500
    assert f"under the ID {response.headers['x-request-id']}" in response.text
    assert "mailto:help@acme.example" in response.text
    assert ">Try again<" in response.text


def test_too_many_attempts_say_how_long_to_wait(local_registry: Callable[..., LocalRegistry]) -> None:
    registry = local_registry()
    registry.make_person("anna")
    with browser(registry) as visitor:
        answers = [sign_in(visitor, "anna", "wrong") for _ in range(12)]
    assert answers[-1].status_code == 429
    assert "Try again in" in answers[-1].text
    assert int(answers[-1].headers["retry-after"]) > 0
