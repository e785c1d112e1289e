"""The pages for signing in and out."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import onboarding
from quilt_registry.accounts import sessions
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.signin import Attempt
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import forms
from quilt_registry.catalog.session import safe_next, set_cookie
from quilt_registry.catalog.templates import render
from quilt_registry.errors import Invalid, SignInNeeded, TooMany
from quilt_registry.registry import Registry
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected, client_ip


async def sign_in_form(request: AnyRequest, account: Injected[Account | None]) -> Response[Any]:
    target = safe_next(request.query_params.get("next", ""))
    if account:
        return Redirect(target, status_code=302)
    changed = "changed" in request.query_params
    return render(request, "account/signin.html", next=target, username="", error="", changed=changed)


async def sign_in(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    username, password, target = forms.read(request, "username", "password", "next")
    attempt = Attempt(username.strip(), password, client_ip(request), "page")
    try:
        token = await onboarding.sign_in(registry.db, registry.limits, attempt)
    except (SignInNeeded, Invalid):
        message = "Wrong username or password, or the account is not active."
        return _show_error(request, 422, username, target, message)
    except TooMany as error:
        response = _show_error(request, error.status, username, target, error.message)
        response.headers.update(error.headers or {})
        return response
    response = Redirect(safe_next(target), status_code=303)
    set_cookie(response, registry.settings, token)
    return response


def _show_error(request: AnyRequest, status: int, username: str, target: str, message: str) -> Response[Any]:
    values = {"next": safe_next(target), "username": username, "error": message, "changed": False}
    return render(request, "account/signin.html", status=status, **values)


async def sign_out_form(request: AnyRequest) -> Response[Any]:
    """Show a button that signs out, because a GET must not change anything."""
    return render(request, "account/signout.html")


async def sign_out(
    request: AnyRequest, registry: Injected[Registry], session: Injected[Session | None]
) -> Response[Any]:
    """End this session, or with `everywhere` all sessions of the account, also those of clients."""
    everywhere, personal_tokens = forms.read(request, "everywhere", "personal_tokens")
    if session and everywhere:
        name = session.account.name
        await sessions.sign_out_everywhere(registry.db, name, personal_tokens=bool(personal_tokens), by=name)
    elif session:
        await sessions.sign_out(registry.db, session)
    response = Redirect("/signin", status_code=303)
    cookies.delete(response, registry.settings, cookies.SESSION)
    return response
