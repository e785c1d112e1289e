"""The pages for signing in and out."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry import onboarding
from quilt_registry.accounts import sessions
from quilt_registry.accounts.sessions import Origin, Session
from quilt_registry.accounts.signin import Attempt
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import flash, forms
from quilt_registry.catalog.account.pages import render
from quilt_registry.catalog.announcements import announce
from quilt_registry.catalog.session import safe_next, set_cookie
from quilt_registry.errors import Invalid, SignInNeeded, TooMany
from quilt_registry.registry import Registry
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected, client_ip
from quilt_registry.web.user_agents import browser_name


async def sign_in_form(
    request: AnyRequest, account: Injected[Account | None], registry: Injected[Registry]
) -> Response[Any]:
    """Show the form. A browser whose session has ended still has its cookie."""
    target = safe_next(request.query_params.get("next", ""))
    if account:
        return Redirect(target, status_code=303)
    ended = bool(cookies.get(request, registry.settings, cookies.SESSION))
    return render(request, "account/signin.html", next=target, username="", problems={}, ended=ended)


async def sign_in(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    username, password, target = forms.read(request, "username", "password", "next")
    blank = {"username": "Enter your username."} if not username.strip() else {}
    blank |= {"password": "Enter your password."} if not password else {}
    if blank:
        return _show_problems(request, blank)
    origin = Origin("page", browser_name(request.headers.get("user-agent", "")))
    attempt = Attempt(username.strip(), password, client_ip(request), origin)
    try:
        signed_in = await onboarding.sign_in(registry.db, registry.limits, attempt)
    except (SignInNeeded, Invalid):
        return _show_problems(request, {"": "Wrong username or password, or the account is not active."})
    except TooMany as error:
        response = _show_problems(request, {"": error.message}, error.status)
        response.headers.update(error.headers or {})
        return response
    response = announce(request, safe_next(target), signed_in.claimed)
    set_cookie(response, registry.settings, signed_in.token)
    return response


def _show_problems(request: AnyRequest, problems: dict[str, str], status: int = 422) -> Response[Any]:
    username, target = forms.read(request, "username", "next")
    values = {"next": safe_next(target), "username": username, "problems": problems, "ended": False}
    return render(request, "account/signin.html", status, **values)


async def sign_out_form(request: AnyRequest, account: Injected[Account | None]) -> Response[Any]:
    """Show a button that signs out, because a GET must not change anything."""
    return render(request, "account/signout.html") if account else Redirect("/", status_code=303)


async def sign_out(
    request: AnyRequest, registry: Injected[Registry], session: Injected[Session | None]
) -> Response[Any]:
    """End this session, or with `everywhere` all sessions of the account, also those of clients."""
    everywhere, personal_tokens = forms.read(request, "everywhere", "personal_tokens")
    message = "You are signed out."
    if session and everywhere:
        name, message = session.account.name, "You are signed out in all browsers and on all command lines."
        await sessions.sign_out_everywhere(registry.db, name, personal_tokens=bool(personal_tokens), by=name)
    elif session:
        await sessions.sign_out(registry.db, session)
    response = flash.redirect(request, "/" if registry.policy.anonymous else "/signin", message)
    response.headers["Clear-Site-Data"] = '"storage"'
    cookies.delete(response, registry.settings, cookies.SESSION)
    return response
