"""Every page in a real browser: what holds for all of them, in light and dark, on a laptop and on a phone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browsers import browser as http_browser, sign_in
from tests.chromium import find_chromium
from tests.registry import Person, Registry

pytestmark = pytest.mark.drill

LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
README = (
    b"# Iris\n\nMeasurements of flowers.\n\n| column | unit |\n|---|---|\n| length | cm |\n\n```python\nx = 1\n```\n"
)

VISITOR_PAGES = {
    "/signin": "signin",
    "/signup": "signup",
    "/reset_password": "reset",
    "/activation_error": "activation-error",
}
MEMBER_PAGES = {
    "/": "home",
    "/help/start": "start",
    "/help/api": "api",
    "/search?q=iris": "search",
    "/search?q=nothing_like_this": "search",
    "/package/bo/iris": "package",
    "/package/bo/iris?version=1.0": "package",
    "/package/bo/iris/files": "files",
    "/package/bo/iris/files/raw": "files",
    "/package/bo/iris/files/raw/train": "file",
    "/package/bo/iris/revisions": "revisions",
    "/package/bo/iris/activity": "activity",
    "/package/bo/iris/comments": "comments",
    "/package/bo/iris/sharing": "sharing",
    "/package/bo/iris/settings": "settings",
    "/user/bo": "user",
    "/user/ada": "user",
    "/profile": "profile",
    "/profile/tokens": "tokens",
    "/profile/account": "account",
    "/code": "code",
    "/signout": "signout",
    "/package/bo/none": "error",
}
ADMIN_PAGES = {
    "/profile/admin": "admin",
    "/profile/admin/users": "admin-users",
    "/profile/admin/packages": "admin-packages",
    "/profile/admin/audit": "admin-audit",
    "/profile/admin/system": "admin-system",
}


@pytest.fixture(scope="module")
def acme(registry: Registry, ada: Person) -> Registry:
    """The registry with people and packages."""
    bo, boss = registry.make_person("bo"), registry.make_person("ada_pages", is_admin=True)
    csv = b"sepal_length,species\n5.1,setosa\n"
    for number in range(3):
        files = {"README": README, "raw": {"train": csv + b"%d" % number, "test": csv}, "long" + "_name" * 12: b"x"}
        top_hash = bo.push("iris", files)
        if number:
            bo.put(f"/api/version/bo/iris/1.{number - 1}", json={"hash": top_hash}).raise_for_status()
    bo.grant("iris", "team")
    boss.post("/api/comments/bo/iris/", json={"contents": "In **cm**?"}).raise_for_status()
    return registry


@pytest.fixture(scope="module")
def chromium(acme: Registry) -> Iterator[Browser]:
    """Chromium. It starts after the packages are made, because it runs an event loop in this thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(chromium: Browser, registry: Registry, name: str | None, viewport: Any, **options: Any) -> Iterator[Page]:
    """A page of a new browser in which `name` is signed in."""
    context: BrowserContext = chromium.new_context(viewport=viewport, base_url=registry.url, **options)
    if name:
        with http_browser(registry) as client:
            assert sign_in(client, name).status_code == 303
            cookies = [{"name": key, "value": value, "url": registry.url} for key, value in client.cookies.items()]
        context.add_cookies(cookies)  # type: ignore[arg-type]
    page = context.new_page()
    yield page
    context.close()


def problems_of(page: Page, path: str, data_page: str) -> list[str]:
    """What is wrong with a page (catalog.md §8, G1 to G7)."""
    seen: list[str] = []
    page.on("console", lambda message: seen.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.append(f"script: {error}"))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    response = page.goto(path)
    assert response
    site = page.url.split("/")[2]
    seen += [f"other site: {url}" for url in requested if url.split("/")[2] != site]
    facts = page.evaluate(
        """() => ({
            headings: document.querySelectorAll("h1").length,
            title: document.title,
            page: document.body.dataset.page,
            lang: document.documentElement.lang,
            wide: document.documentElement.scrollWidth > innerWidth,
            inline: document.querySelectorAll("[style], [onclick], script:not([src]), style").length,
            forms: [...document.querySelectorAll("form[method=post]")]
                .filter(form => !form.querySelector("[name=csrf]")).length,
            small: [...document.querySelectorAll("main :is(a, button, summary), header :is(a, button)")].filter(e => {
                const box = e.getBoundingClientRect();
                const inText = getComputedStyle(e).display === "inline";
                return box.width && !inText && (box.width < 23.5 || box.height < 23.5);
            }).map(e => e.outerHTML.slice(0, 80)),
        })"""
    )
    expected = {"headings": 1, "page": data_page, "lang": "en", "wide": False, "inline": 0, "forms": 0, "small": []}
    seen += [f"{key}: {facts[key]!r}" for key, value in expected.items() if facts[key] != value]
    if "404" in str(response.status):
        seen = [each for each in seen if not each.startswith("console: Failed to load resource")]
    page.keyboard.press("Tab")
    if (focused := page.evaluate("document.activeElement.textContent")) != "Skip to content":
        seen.append(f"the first tab stop is {focused!r}")
    return seen


def axe_findings(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {each['nodes'][0]['html'][:150]}" for each in serious]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize(
    ("name", "pages"),
    [(None, VISITOR_PAGES), ("bo", MEMBER_PAGES), ("ada_pages", ADMIN_PAGES)],
    ids=["visitor", "member", "admin"],
)
def test_every_page_keeps_the_rules(
    chromium: Browser, acme: Registry, name: str | None, pages: dict[str, str], viewport: Any, scheme: Any
) -> None:
    found = {}
    for path, data_page in pages.items():
        with opened(chromium, acme, name, viewport, color_scheme=scheme) as page:
            if problems := problems_of(page, path, data_page) + axe_findings(page):
                found[path] = problems
    assert not found, json.dumps(found, indent=1)


@pytest.mark.parametrize(("name", "pages"), [(None, VISITOR_PAGES), ("bo", MEMBER_PAGES)], ids=["visitor", "member"])
def test_every_page_says_the_same_without_scripts(
    chromium: Browser, acme: Registry, name: str | None, pages: dict[str, str]
) -> None:
    for path in pages:
        texts = []
        for scripts in (True, False):
            with opened(chromium, acme, name, LAPTOP, java_script_enabled=scripts) as page:
                page.goto(path)
                texts.append(page.locator("h1").first.text_content())
        assert texts[0] == texts[1], path
