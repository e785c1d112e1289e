"""Rate limits, counted in the database so that all workers and hosts share them."""

from __future__ import annotations

import hashlib
import ipaddress

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.errors import TooMany


class Rule(Struct, frozen=True):
    """At most `limit` hits in a window of `seconds`, which begins with the first hit."""

    name: str
    limit: int
    seconds: int
    noun: str  # for the error: "Too many {noun}."


# Attackers guess passwords from one IP or from many. The limit by account is higher than that by account and IP, so
# that an attacker elsewhere does not soon lock the owner out.
SIGN_IN_PAIR = Rule("sign-in, account and IP", 10, 900, "failed sign-ins")
SIGN_IN_ACCOUNT = Rule("sign-in, account", 100, 900, "failed sign-ins")
SIGN_IN_IP = Rule("sign-in, IP", 100, 900, "failed sign-ins")
# High enough for a whole team behind one IP.
SIGN_UP = Rule("sign-up, IP", 20, 3600, "sign-ups")
RESET = Rule("reset, IP", 20, 3600, "password reset requests")
RESET_EMAIL = Rule("reset, account", 5, 3600, "password reset requests")
INVITE = Rule("invite, account", 20, 3600, "invitations")
SUGGESTION = Rule("suggestion, account", 60, 60, "suggestions")
COMMENT = Rule("comment, account", 10, 60, "comments")
PREVIEW = Rule("preview, account", 30, 60, "previews")  # those that are not kept
COMMENT_PREVIEW = Rule("comment preview, account", 30, 60, "previews")
COMMENT_EMAIL = Rule("comment emails, package", 20, 3600, "comments")


# Networks whose addresses contain an IPv4 address in their last 32 bits: IPv4-mapped ones, as a socket for both
# protocols reports IPv4 clients, and those of NAT64 gateways (RFC 6052).
_CONTAIN_IPV4 = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))


def client_network(client_ip: str) -> str:
    """Return the network that a client IP is counted by: an IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in client_ip:
        return client_ip
    try:
        address = ipaddress.IPv6Address(client_ip.partition("%")[0])
    except ValueError:
        return client_ip
    if any(address in network for network in _CONTAIN_IPV4):
        return str(ipaddress.IPv4Address(address.packed[-4:]))
    return str(ipaddress.IPv6Network((address, 64), strict=False))


class RateLimits:
    """The rate limits of one registry. Without effect if they are disabled."""

    def __init__(self, db: Database, *, enabled: bool):
        self.db, self.enabled = db, enabled

    async def hit(self, rule: Rule, *subject: str) -> None:
        """Count one hit for a subject. Raise TooMany above the limit."""
        if not self.enabled:
            return
        row = await self.db.fetchrow(
            """
            INSERT INTO allowance AS a (subject, used, ends_at) VALUES ($1, 1, now() + make_interval(secs => $2))
            ON CONFLICT (subject) DO UPDATE SET
                used = CASE WHEN a.ends_at > now() THEN a.used + 1 ELSE 1 END,
                ends_at = CASE WHEN a.ends_at > now() THEN a.ends_at ELSE excluded.ends_at END
            RETURNING used, ceil(extract(epoch FROM ends_at - now()))::int AS wait
            """,
            _key(rule, subject), float(rule.seconds),
        )  # fmt: skip
        assert row is not None
        if row["used"] > rule.limit:
            raise TooMany(f"Too many {rule.noun}. Try again in {_duration(row['wait'])}.", row["wait"])

    async def allows(self, rule: Rule, *subject: str) -> bool:
        """Count one hit for a subject. Return False above the limit."""
        try:
            await self.hit(rule, *subject)
        except TooMany:
            return False
        return True

    async def refund(self, rule: Rule, *subject: str) -> None:
        """Take one hit back, because it was harmless."""
        if self.enabled:
            await self.db.execute("UPDATE allowance SET used = used - 1 WHERE subject = $1", _key(rule, subject))


def _key(rule: Rule, subject: tuple[str, ...]) -> bytes:
    text = "\0".join((rule.name, *subject))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _duration(seconds: int) -> str:
    if seconds < 90:
        return f"{max(1, seconds)} seconds"
    return f"{-(-seconds // 60)} minutes"
