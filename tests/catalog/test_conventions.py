"""Rules for every page."""

from __future__ import annotations

import re

import httpx
import pytest


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/code", 200),
        ("/signout", 200),
        ("/signin", 303),
        ("/package/anna/missing", 404),
        ("/no/page", 404),
    ],
)
def test_every_page_answers_head_like_get_without_a_body(annas_browser: httpx.Client, path: str, status: int) -> None:
    get, head = annas_browser.get(path), annas_browser.head(path)
    assert get.status_code == head.status_code == status
    assert head.content == b""
    assert get.headers["content-type"] == head.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/code", "/signout", "/package/anna/missing", "/no/page"])
def test_every_page_has_security_headers(annas_browser: httpx.Client, path: str) -> None:
    headers = annas_browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "data:" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == ("no-referrer" if path in ("/code", "/signout") else "same-origin")
    assert headers["cache-control"] == "private, no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no/page", 404),
        ("GET", "/package/nobody", 404),
        ("GET", "/package/anna/a%00b", 400),
        ("GET", "/package/%FF/%ED%A0%80", 400),
        ("GET", "/package/anna/" + "x" * 5000, 404),
        ("DELETE", "/signin", 405),
        ("POST", "/", 405),
        ("GET", "/static/nothing.css", 404),
        ("GET", "/static/a%00b.css", 400),
        ("GET", "/static/..%2f..%2fapp.py", 404),
    ],
)
def test_page_errors_are_html(annas_browser: httpx.Client, method: str, path: str, status: int) -> None:
    response = annas_browser.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert "<h1 " in response.text
    assert 'data-page="error"' in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api/me", 401),
        ("GET", "/api/package/anna/missing/", 401),
        ("DELETE", "/api/me", 405),
        ("GET", "/objects/nothing", 403),
    ],
)
def test_api_errors_are_json(annas_browser: httpx.Client, method: str, path: str, status: int) -> None:
    response = annas_browser.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["message"]


def test_pages_come_with_their_style_and_mark(visitor: httpx.Client) -> None:
    page = visitor.get("/signin").text
    linked = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(linked) >= 2
    assert {visitor.get(path).status_code for path in linked} == {200}
