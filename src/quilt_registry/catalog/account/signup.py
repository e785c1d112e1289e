"""The pages for signing up."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import onboarding
from quilt_registry.accounts import email_links, rights
from quilt_registry.accounts.signup import Registration
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import forms
from quilt_registry.catalog.account import new_account, new_password
from quilt_registry.catalog.account.pages import render
from quilt_registry.catalog.announcements import open_package
from quilt_registry.errors import Refusal
from quilt_registry.packages import invitations
from quilt_registry.registry import Registry
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected, client_ip, is_speculative

FIELDS = ("username", "email", "password", "again", "invitation")


async def sign_up_form(
    request: AnyRequest, account: Injected[Account | None], registry: Injected[Registry]
) -> Response[Any]:
    """Show the form. Emails with an invitation link to it, with a secret that accepts the invitation."""
    invitation = request.query_params.get("invitation", "")
    if account is None:
        new = Registration("", await invitations.find_email(registry.db, invitation), "", invitation)
        return render(request, "account/signup.html", new=new, problems={})
    package = None if is_speculative(request) else await invitations.accept(registry.db, account, invitation)
    return open_package(request, package) if package else Redirect("/", status_code=303)


async def sign_up(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    username, email, password, again, invitation = forms.read(request, *FIELDS)
    new = Registration(username.strip(), email.strip(), password, invitation)
    rights.check_signup_offered(registry.settings)
    problems = new_account.find_problems(new.username, new.email) | new_password.find_problems(new.password, again)
    if problems:
        return render(request, "account/signup.html", 422, new=new, problems=problems)
    try:
        link = await onboarding.register(registry, registry.settings, new, client_ip(request))
    except Refusal as error:
        response = render(request, "account/signup.html", error.status, new=new, problems=new_account.problem_of(error))
        response.headers.update(error.headers or {})
        return response
    response = render(request, "account/sent.html", email=new.email, purpose="activation")
    max_age = int(email_links.LIFETIME.total_seconds())
    cookies.set(response, registry.settings, cookies.SIGN_UP, email_links.browser_proof(link), max_age)
    return response


async def activation_error(request: AnyRequest) -> Response[Any]:
    return render(request, "account/activation_error.html")
