"""What an admin should see to before others use a new registry."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.accounts import users
from quilt_registry.mail import outbox
from quilt_registry.monitoring import readiness
from quilt_registry.registry import Registry


class Check(Struct, frozen=True):
    """Something to see to. `hint` says what to do, or what is fine."""

    title: str
    is_ok: bool
    hint: str


async def run(registry: Registry) -> list[Check]:
    """Check email, the object store, encryption, and that there is a second admin."""
    admins = await users.admin_emails(registry.db)
    return [
        await _email(registry),
        await _store(registry),
        _https(registry),
        Check("A second admin", True, f"{len(admins)} accounts are admins.")
        if len(admins) > 1
        else Check("A second admin", False, "Make another user an admin, in case you lose access to your account."),
    ]


async def _email(registry: Registry) -> Check:
    title = "Email"
    if registry.settings.smtp_host is None:
        return Check(title, False, "Emails are only written to the log. Set SMTP_HOST, so that invitations arrive.")
    _, undeliverable = await outbox.status(registry.db)
    if undeliverable:
        return Check(title, False, "Some emails could not be delivered. Run quilt-registry check to see why.")
    return Check(title, True, "No email has failed.")


async def _store(registry: Registry) -> Check:
    state = (await registry.readiness.state())["store"]
    return Check("Object store", state == readiness.OK, "It responds." if state == readiness.OK else state)


def _https(registry: Registry) -> Check:
    if registry.settings.is_https_only:
        return Check("HTTPS", True, "Passwords and tokens are sent encrypted.")
    hint = "Passwords and tokens are sent unencrypted. Put a proxy with TLS in front and set REGISTRY_URL to its URL."
    return Check("HTTPS", False, hint)
