"""The pages for signing up."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import onboarding
from quilt_registry.accounts import email_links, rights, users
from quilt_registry.accounts.signup import Registration
from quilt_registry.accounts.users import Account, EmailTaken, NameTaken
from quilt_registry.catalog import forms
from quilt_registry.catalog.account.new_password import find_problems
from quilt_registry.catalog.account.pages import render
from quilt_registry.catalog.announcements import open_package
from quilt_registry.errors import Refusal
from quilt_registry.packages import invitations
from quilt_registry.registry import Registry
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected, client_ip, is_speculative

FIELDS = ("username", "email", "password", "again", "invitation")
NAME_RULE = (
    "A username starts with a lower-case letter, followed by lower-case letters, digits and _; 64 characters at most."
)


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
    if problems := _find_problems(new, again):
        return render(request, "account/signup.html", 422, new=new, problems=problems)
    try:
        link = await onboarding.register(registry, registry.settings, new, client_ip(request))
    except Refusal as error:
        response = render(request, "account/signup.html", error.status, new=new, problems=_problem_of(error))
        response.headers.update(error.headers or {})
        return response
    response = render(request, "account/sent.html", email=new.email, purpose="activation")
    max_age = int(email_links.LIFETIME.total_seconds())
    cookies.set(response, registry.settings, cookies.SIGN_UP, email_links.browser_proof(link), max_age)
    return response


def _find_problems(new: Registration, again: str) -> dict[str, str]:
    """Return what is wrong with the form, by field."""
    problems = {}
    if not new.username:
        problems["username"] = "Enter a username."
    elif not users.is_username(new.username):
        problems["username"] = NAME_RULE
    elif new.username in users.RESERVED_USERNAMES:
        problems["username"] = "This username is reserved. Choose another one."
    if not new.email:
        problems["email"] = "Enter your email address."
    elif not users.may_be_email(new.email):
        problems["email"] = "This is not a valid email address."
    return problems | find_problems(new.password, again)


def _problem_of(error: Refusal) -> dict[str, str]:
    """Return what a refused sign-up says, by field; "" for the whole form."""
    if isinstance(error, NameTaken):
        return {"username": "This username is taken. Choose another one."}
    if isinstance(error, EmailTaken):
        return {"email": "An account with this email address exists. If you forgot its password, reset it."}
    return {"": error.message}


async def activation_error(request: AnyRequest) -> Response[Any]:
    return render(request, "account/activation_error.html")
