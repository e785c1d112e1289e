"""Proxies whose `X-Forwarded-*` headers are trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator


def trusted_proxies(forwarded_allow_ips: str) -> list[str]:
    """Return the IPs and networks of the setting, IPv4 ones in both of their forms.

    A socket for both protocols (`--host ::`) reports an IPv4 proxy as an IPv6 address: `::ffff:127.0.0.1`.
    """
    return [form for name in forwarded_allow_ips.split(",") if name.strip() for form in _forms(name.strip())]


def _forms(name: str) -> Iterator[str]:
    yield name
    try:
        network = ipaddress.ip_network(name)
    except ValueError:  # `*`, or the path of a socket
        return
    if isinstance(network, ipaddress.IPv4Network):
        yield f"::ffff:{network.network_address}/{96 + network.prefixlen}"
    elif network.network_address.ipv4_mapped and network.prefixlen >= 96:
        yield f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}"
