"""The pages for signing up."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import onboarding
from quilt_registry.accounts.signup import Registration
from quilt_registry.accounts.users import Account
from quilt_registry.catalog.account.password import PASSWORDS_DIFFER
from quilt_registry.catalog.session import read_form
from quilt_registry.catalog.templates import render
from quilt_registry.errors import Invalid, Refusal
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip

# The API's messages stay as released clients compare them; the page explains more.
_PAGE_MESSAGES = {
    "Invalid username.": "A username starts with a lower-case letter, followed by lower-case letters, digits and _; "
    "64 characters at most. The names team, public, anonymous and quilt are reserved.",
    "Invalid email.": "This is not a valid email address.",
    "Username already taken.": "This username is taken. Choose another one.",
    "Email already taken.": "An account with this email address exists. If you forgot its password, reset it.",
}


async def sign_up_form(request: AnyRequest, account: Injected[Account | None]) -> Response[Any]:
    if account:
        return Redirect("/", status_code=302)
    return render(request, "account/signup.html", username="", email="", error="")


async def sign_up(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    username, email, password, again = await read_form(request, "username", "email", "password", "again")
    new = Registration(username.strip(), email.strip(), password)
    try:
        if password != again:
            raise Invalid(PASSWORDS_DIFFER)
        await onboarding.register(registry, registry.settings, new, client_ip(request))
    except Refusal as error:
        status = 422 if error.status == Invalid.status else error.status
        message = _PAGE_MESSAGES.get(error.message, error.message)
        return render(
            request, "account/signup.html", status=status, username=new.username, email=new.email, error=message
        )
    return render(request, "account/sent.html", email=new.email, purpose="activation")


async def activation_error(request: AnyRequest, account: Injected[Account | None]) -> Response[Any]:
    return render(request, "account/activation_error.html", account=account)
