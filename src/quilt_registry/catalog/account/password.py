"""The pages for resetting a password: request a link by email, then choose a new password."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect

from quilt_registry.accounts import email_links, password_reset
from quilt_registry.catalog import forms
from quilt_registry.catalog.templates import render
from quilt_registry.errors import Invalid, Refusal, SignInNeeded
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip

PASSWORDS_DIFFER = "The passwords do not match."

# The URL of these pages holds a secret, which browsers must not send to other sites.
_NO_REFERRER = {"Referrer-Policy": "no-referrer"}


async def request_form(request: AnyRequest) -> Response[Any]:
    return render(request, "account/reset.html", error="")


async def request_reset(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Send the link. The page is the same whether the account exists or not."""
    (email,) = forms.read(request, "email")
    try:
        await password_reset.request(registry.db, registry.site, registry.limits, email.strip(), client_ip(request))
    except Refusal as error:
        return render(request, "account/reset.html", status=error.status, error=error.message)
    return render(request, "account/sent.html", email=email, purpose="reset")


async def choose_form(request: AnyRequest, registry: Injected[Registry], link: FromPath[str]) -> Response[Any]:
    """Check the link without redeeming it, because programs that scan email open links."""
    if not await email_links.is_valid(registry.db, link, "reset"):
        return _expired(request)
    return _form(request)


async def choose(request: AnyRequest, registry: Injected[Registry], link: FromPath[str]) -> Response[Any]:
    password, again = forms.read(request, "password", "again")
    try:
        if password != again:
            raise Invalid(PASSWORDS_DIFFER)
        await password_reset.change_password(registry.db, link, password)
    except SignInNeeded:
        return _expired(request)
    except Invalid as error:
        return _form(request, error.message, 422)
    return Redirect("/signin?changed=1", status_code=303)


def _form(request: AnyRequest, error: str = "", status: int = 200) -> Response[Any]:
    response = render(request, "account/choose.html", status=status, error=error)
    response.headers.update(_NO_REFERRER)
    return response


def _expired(request: AnyRequest) -> Response[Any]:
    response = render(request, "account/link_expired.html", status=410)
    response.headers.update(_NO_REFERRER)
    return response
