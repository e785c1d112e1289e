"""How often somebody may do what costs others: counted in the database, so that it holds for all workers and hosts."""

from __future__ import annotations

import hashlib
import ipaddress

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.errors import TooMany


class Rule(Struct, frozen=True):
    """`most` times within `seconds`, counted from the first time."""

    name: str
    most: int
    seconds: int
    what: str  # for the refusal: "Too many {what}."


# A password is guessed at from one address, or from many. Whoever mistypes from elsewhere is not locked out by that.
SIGN_IN_PAIR = Rule("sign-in, account and address", 10, 900, "failed sign-ins")
SIGN_IN_ACCOUNT = Rule("sign-in, account", 100, 900, "failed sign-ins")
SIGN_IN_ADDRESS = Rule("sign-in, address", 100, 900, "failed sign-ins")
# A whole team may sit behind one address.
SIGN_UP = Rule("sign-up, address", 20, 3600, "sign-ups")
RESET = Rule("reset, address", 20, 3600, "requests for a new password")
RESET_EMAIL = Rule("reset, account", 5, 3600, "requests for a new password")
INVITE = Rule("invite, account", 20, 3600, "invitations")
COMMENT = Rule("comment, account", 10, 60, "comments")
COMMENT_EMAIL = Rule("letters about comments, package", 20, 3600, "comments")


def client_network(host: str) -> str:
    """Where a caller is, as it is counted: an IPv4 address, or the IPv6 network that one household gets."""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


class RateLimits:
    """The limits of one registry; none where they are switched off."""

    def __init__(self, db: Database, *, enabled: bool):
        self.db, self.enabled = db, enabled

    async def hit(self, rule: Rule, *subject: str) -> None:
        """Count once more for a subject. Raises TooMany."""
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
        if row["used"] > rule.most:
            raise TooMany(f"Too many {rule.what}. Try again in {_time(row['wait'])}.", row["wait"])

    async def allows(self, rule: Rule, *subject: str) -> bool:
        """Count once more, and say whether that was too often instead of refusing."""
        try:
            await self.hit(rule, *subject)
        except TooMany:
            return False
        return True

    async def refund(self, rule: Rule, *subject: str) -> None:
        """Take back what was counted once: it was well meant."""
        if self.enabled:
            await self.db.execute("UPDATE allowance SET used = used - 1 WHERE subject = $1", _key(rule, subject))


def _key(rule: Rule, subject: tuple[str, ...]) -> bytes:
    text = "\0".join((rule.name, *subject))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _time(seconds: int) -> str:
    if seconds < 90:
        return f"{max(1, seconds)} seconds"
    return f"{-(-seconds // 60)} minutes"
