"""HTTP clients that stand for browsers in the catalog."""

from __future__ import annotations

import httpx

from tests.registry import PASSWORD, Registry


def browser(registry: Registry) -> httpx.Client:
    return httpx.Client(base_url=registry.url, timeout=30)


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    return client.post("/signin", data={"username": name, "password": password, **fields})


def cookie_of(response: httpx.Response) -> dict[str, str]:
    """The session's cookie that a response sets, as a request carries it."""
    ((name, value),) = [each.split(";")[0].split("=", 1) for each in response.headers.get_list("set-cookie")]
    return {"Cookie": f"{name}={value}"}
