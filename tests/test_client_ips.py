"""Which network a client is counted by, and which proxies may name a client."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from quilt_registry.rate_limits import client_network
from quilt_registry.web.proxies import trusted_proxies
from tests.registry import LocalRegistry


@pytest.mark.parametrize(
    ("client_ip", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:0207", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("64:ff9b::c000:207", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("64:ff9b:1::7", "64:ff9b:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a:b", "a:b"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_counted_by_its_network(client_ip: str, network: str) -> None:
    assert client_network(client_ip) == network


@pytest.mark.parametrize(
    ("setting", "trusted"),
    [
        ("127.0.0.1", ["127.0.0.1", "::ffff:127.0.0.1/128"]),
        ("10.0.0.0/8, 2001:db8::1", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "2001:db8::1"]),
        ("::ffff:127.0.0.1", ["::ffff:127.0.0.1", "127.0.0.1/32"]),
        ("*", ["*"]),
        ("/run/proxy.sock", ["/run/proxy.sock"]),
        ("", []),
    ],
)
def test_an_ipv4_proxy_is_trusted_in_both_forms(setting: str, trusted: list[str]) -> None:
    assert trusted_proxies(setting) == trusted


@pytest.mark.parametrize("setting", ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.0/8"])
def test_clients_of_a_socket_for_both_protocols_are_told_apart(
    local_registry: Callable[..., LocalRegistry], setting: str
) -> None:
    """Such a socket reports the proxy 127.0.0.1 as ::ffff:127.0.0.1."""
    registry = local_registry(host="::", FORWARDED_ALLOW_IPS=setting)

    def sign_in(client_ip: str) -> int:
        headers, body = {"X-Forwarded-For": client_ip}, {"username": "somebody", "password": "wrong"}
        return httpx.post(registry.url + "/api/login", json=body, headers=headers).status_code

    sign_in("::ffff:192.0.2.1")
    registry.sql("UPDATE allowance SET used = 10 WHERE used = 1")
    assert [sign_in("192.0.2.1"), sign_in("192.0.2.2"), sign_in("::ffff:192.0.2.3")] == [429, 401, 401]
