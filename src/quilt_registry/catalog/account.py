"""Signing in and out in the browser, and the code that carries a sign-in to a client."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.accounts import signin
from quilt_registry.catalog.reading import (
    COOKIE,
    AnyRequest,
    LiveSession,
    Registry,
    SignedIn,
    client_address,
    keep,
    read_form,
    safe_next,
    to_sign_in,
)
from quilt_registry.catalog.rendering import render
from quilt_registry.errors import Invalid, SignInNeeded, TooMany
from quilt_registry.packages import joining


async def sign_in_form(request: AnyRequest, account: SignedIn) -> Response[Any]:
    target = safe_next(request.query_params.get("next", ""))
    if account:
        return Redirect(target, status_code=302)
    changed = "changed" in request.query_params
    return render(request, "signin.html", next=target, username="", error="", changed=changed)


async def sign_in(request: AnyRequest, parts: Registry) -> Response[Any]:
    username, password, target = await read_form(request, "username", "password", "next")
    try:
        token = await joining.sign_in(parts.db, parts.limits, username.strip(), password, client_address(request))
    except (SignInNeeded, Invalid):
        error = "That user name and password do not go together, or the account is not active."
        return _again(request, 422, username, target, error)
    except TooMany as error:
        response = _again(request, error.status, username, target, error.message)
        response.headers.update(error.headers or {})
        return response
    response = Redirect(safe_next(target), status_code=303)
    keep(response, parts.settings, token)
    return response


def _again(request: AnyRequest, status: int, username: str, target: str, error: str) -> Response[Any]:
    values = {"next": safe_next(target), "username": username, "error": error, "changed": False}
    return render(request, "signin.html", status=status, **values)


async def sign_out_form(request: AnyRequest, account: SignedIn) -> Response[Any]:
    """Asks for a click: looking at a page must not change anything."""
    return render(request, "signout.html", account=account)


async def sign_out(request: AnyRequest, parts: Registry) -> Response[Any]:
    if token := request.cookies.get(COOKIE):
        await signin.sign_out(parts.db, token)
    response = Redirect("/signin", status_code=303)
    response.delete_cookie(COOKIE)
    return response


async def code(request: AnyRequest, session: LiveSession, parts: Registry) -> Response[Any]:
    """Where `quilt login` leads: a code to paste into the client."""
    if session is None:
        return to_sign_in(request)
    shown = "" if request.method == "HEAD" else await signin.new_code(parts.db, session)
    minutes = int(signin.CODE_LIFE.total_seconds() / 60)
    return render(request, "code.html", account=session.account, code=shown, minutes=minutes)
