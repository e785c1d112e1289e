"""HTTP clients that stand for browsers in the catalog."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.registry import PASSWORD, Registry

_TOKEN = re.compile(r'name="csrf" value="([^"]+)"|name="csrf-token" content="([^"]+)"')


class Browser(httpx.Client):
    """A client that sends forms as a browser does: with the token that a page of the site put into them.

    It sends cookies for https to a registry behind no proxy too, as if one took the requests.
    """

    def __init__(self, **options: Any):
        super().__init__(event_hooks={"response": [self._keep_secure_cookies]}, **options)

    def _keep_secure_cookies(self, _: httpx.Response) -> None:
        for cookie in self.cookies.jar:
            cookie.secure = False

    def submit(self, path: str, data: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """Send a form of the site."""
        return self.post(path, data={"csrf": self.form_token(), **(data or {})}, **more)

    def form_token(self) -> str:
        """A token for a form, from a page that has one whether somebody is signed in or not."""
        found = _TOKEN.search(self.get("/signout", follow_redirects=True).text)
        assert found
        return found[1] or found[2]


def without_tokens(page: str) -> str:
    """A page without the tokens of its forms, which differ each time."""
    return _TOKEN.sub("", page)


def browser(registry: Registry, cookie: dict[str, str] | None = None) -> Browser:
    """A new browser, with a session's cookie if one is given as `cookie_of` returns it."""
    client = Browser(base_url=registry.url, timeout=30)
    if cookie:
        client.cookies.set(*cookie["Cookie"].split("=", 1))
    return client


def sign_in(client: Browser, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    return client.submit("/signin", {"username": name, "password": password, **fields})


def cookie_of(response: httpx.Response) -> dict[str, str]:
    """The session's cookie that a response sets, as a request carries it."""
    cookies = [each.split(";")[0].split("=", 1) for each in response.headers.get_list("set-cookie")]
    ((name, value),) = [each for each in cookies if each[0].endswith("quilt_session")]
    return {"Cookie": f"{name}={value}"}


def submit(registry: Registry, path: str, data: dict[str, Any], **more: Any) -> httpx.Response:
    """The answer to a form that a new browser sends."""
    with browser(registry) as client:
        return client.submit(path, data, **more)
