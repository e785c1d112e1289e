"""The page of an account: its password and the theme of pages."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.accounts import password_change
from quilt_registry.accounts.sessions import Origin, Session
from quilt_registry.accounts.signin import Attempt
from quilt_registry.catalog import flash, forms
from quilt_registry.catalog.account.new_password import find_problems
from quilt_registry.catalog.session import set_cookie
from quilt_registry.catalog.templates import render
from quilt_registry.errors import SignInNeeded, TooMany
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip
from quilt_registry.web.user_agents import browser_name

PATH = "/profile/account"


async def page(request: AnyRequest) -> Response[Any]:
    return render(request, "account/account.html", problems={})


async def change_password(
    request: AnyRequest, session: Injected[Session], registry: Injected[Registry]
) -> Response[Any]:
    """Change the password, which signs out everything but this browser."""
    current, password, again = forms.read(request, "current", "password", "again")
    problems = {} if current else {"current": "Enter your current password."}
    if problems := problems | find_problems(password, again):
        return render(request, "account/account.html", 422, problems=problems)
    origin = Origin("page", browser_name(request.headers.get("user-agent", "")))
    attempt = Attempt(session.account.name, current, client_ip(request), origin)
    try:
        token = await password_change.change(registry.db, registry.limits, attempt, password)
    except SignInNeeded:
        problems = {"current": "This is not your current password."}
        return render(request, "account/account.html", 422, problems=problems)
    except TooMany as error:
        response = render(request, "account/account.html", error.status, problems={"current": error.message})
        response.headers.update(error.headers or {})
        return response
    message = "Your password is changed. Everything else is signed out: other browsers, command lines and tokens."
    response = flash.redirect(request, PATH, message)
    set_cookie(response, registry.settings, token)
    return response
