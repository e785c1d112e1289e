"""The state of the system, and the end of all sign-ins."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.accounts import sessions
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import flash, forms
from quilt_registry.catalog.site import checks
from quilt_registry.catalog.templates import render
from quilt_registry.mail import outbox
from quilt_registry.registry import Registry
from quilt_registry.settings import Settings
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected

# Settings without secrets, in the order of docs/operating.md.
SHOWN_SETTINGS = (
    "registry_url",
    "catalog_url",
    "team_id",
    "team_name",
    "team_logo",
    "support_email",
    "docs_url",
    "allow_team_access",
    "allow_anonymous_access",
    "enable_user_endpoints",
    "signup",
    "signup_domains",
    "rate_limits",
    "smtp_host",
)
CONFIRMATION = "everybody"


async def page(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Show what works, and with which settings."""
    waiting, undeliverable = await outbox.status(registry.db)
    return render(
        request,
        "admin/system.html",
        state=await registry.readiness.state(),
        latencies=await registry.readiness.latencies(),
        started_at=registry.readiness.started_at,
        checks=await checks.run(registry),
        waiting=waiting,
        undeliverable=undeliverable,
        opened_at=f"{request.url.scheme}://{request.url.netloc}",
        values=[(name.upper(), _shown(registry.settings, name)) for name in SHOWN_SETTINGS],
    )


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)


async def confirm_sign_out(request: AnyRequest) -> Response[Any]:
    """Ask before everybody is signed out."""
    return render(request, "admin/confirm_sign_out.html", problems={})


async def sign_out(request: AnyRequest, account: Injected[Account], registry: Injected[Registry]) -> Response[Any]:
    """Sign everybody out, this admin too."""
    personal_tokens, confirmed = forms.read(request, "personal_tokens", "confirm")
    if confirmed.strip() != CONFIRMATION:
        problems = {"confirm": f"Type {CONFIRMATION} to confirm."}
        return render(request, "admin/confirm_sign_out.html", 422, problems=problems)
    await sessions.sign_out_everywhere(registry.db, None, personal_tokens=bool(personal_tokens), by=account.name)
    response = flash.redirect(request, "/signin", "Everybody is signed out.")
    cookies.delete(response, registry.settings, cookies.SESSION)
    return response
