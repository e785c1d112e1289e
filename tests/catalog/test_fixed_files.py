"""Files at fixed paths: the logo, and what crawlers and browsers ask for. The page of components."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.browsers import browser
from tests.registry import LocalRegistry, Registry

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="28" height="28"><script>alert(1)</script></svg>'


def test_a_team_has_its_logo_on_all_pages(local_registry: Callable[..., LocalRegistry], tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_bytes(SVG)
    with browser(local_registry(TEAM_LOGO=str(logo))) as visitor:
        assert 'src="/logo"' in visitor.get("/signin").text
        response = visitor.get("/logo")
        assert response.content == SVG
        assert response.headers["content-type"].startswith("image/svg+xml")
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        logo.unlink()
        assert visitor.get("/logo").status_code == 404


def test_without_a_logo_there_is_none(visitor: httpx.Client) -> None:
    assert visitor.get("/logo").status_code == 404


@pytest.mark.parametrize(("mode", "line"), [("registry", "Disallow: /"), ("open_registry", "Disallow: /search")])
def test_crawlers_are_kept_out_of_teams(request: pytest.FixtureRequest, mode: str, line: str) -> None:
    registry: Registry = request.getfixturevalue(mode)
    with browser(registry) as visitor:
        assert visitor.get("/robots.txt").text.splitlines() == ["User-agent: *", line]


def test_the_service_worker_of_the_original_catalog_is_replaced(visitor: httpx.Client) -> None:
    response = visitor.get("/sw.js")
    assert response.headers["content-type"].startswith("text/javascript")
    assert response.headers["cache-control"] == "no-cache"
    assert "unregister()" in response.text


def test_every_component_is_on_one_page(annas_browser: httpx.Client) -> None:
    response = annas_browser.get("/preferences/components")
    assert response.status_code == 200
    assert 'data-page="components"' in response.text
