"""The pages for signing up."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import onboarding
from quilt_registry.accounts import email_links
from quilt_registry.accounts.signup import Registration
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import forms
from quilt_registry.catalog.account.password import PASSWORDS_DIFFER
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import package_url
from quilt_registry.errors import Invalid, Refusal
from quilt_registry.packages import invitations
from quilt_registry.registry import Registry
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected, client_ip, is_speculative

FIELDS = ("username", "email", "password", "again", "invitation")
# The API's messages stay as released clients compare them; the page explains more.
_PAGE_MESSAGES = {
    "Invalid username.": "A username starts with a lower-case letter, followed by lower-case letters, digits and _; "
    "64 characters at most. The names team, public, anonymous and quilt are reserved.",
    "Invalid email.": "This is not a valid email address.",
    "Username already taken.": "This username is taken. Choose another one.",
    "Email already taken.": "An account with this email address exists. If you forgot its password, reset it.",
}


async def sign_up_form(
    request: AnyRequest, account: Injected[Account | None], registry: Injected[Registry]
) -> Response[Any]:
    """Show the form. Emails with an invitation link to it, with a secret that accepts the invitation."""
    invitation = request.query_params.get("invitation", "")
    if account is None:
        email = await invitations.find_email(registry.db, invitation)
        return render(request, "account/signup.html", username="", email=email, invitation=invitation, error="")
    package = None if is_speculative(request) else await invitations.accept(registry.db, account, invitation)
    return Redirect(package_url(package.owner, package.name) if package else "/", status_code=302)


async def sign_up(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    username, email, password, again, invitation = forms.read(request, *FIELDS)
    new = Registration(username.strip(), email.strip(), password, invitation)
    try:
        if password != again:
            raise Invalid(PASSWORDS_DIFFER)
        link = await onboarding.register(registry, registry.settings, new, client_ip(request))
    except Refusal as error:
        status = 422 if error.status == Invalid.status else error.status
        message = _PAGE_MESSAGES.get(error.message, error.message)
        values = {"username": new.username, "email": new.email, "invitation": invitation, "error": message}
        return render(request, "account/signup.html", status=status, **values)
    response = render(request, "account/sent.html", email=new.email, purpose="activation")
    max_age = int(email_links.LIFETIME.total_seconds())
    cookies.set(response, registry.settings, cookies.SIGN_UP, email_links.browser_proof(link), max_age)
    return response


async def activation_error(request: AnyRequest) -> Response[Any]:
    return render(request, "account/activation_error.html")
