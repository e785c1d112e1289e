"""Signing in and out in the browser, and the code that carries a sign-in to a client."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.accounts import signin
from quilt_registry.catalog.reading import COOKIE, AnyRequest, Registry, SignedIn, keep, safe_next, to_sign_in
from quilt_registry.catalog.rendering import render
from quilt_registry.errors import SignInNeeded, TooLarge

LARGEST_FORM = 64_000


async def sign_in_form(request: AnyRequest, account: SignedIn) -> Response[Any]:
    target = safe_next(request.query_params.get("next", ""))
    if account:
        return Redirect(target, status_code=302)
    return render(request, "signin.html", next=target, username="", error="")


async def sign_in(request: AnyRequest, parts: Registry) -> Response[Any]:
    if int(request.headers.get("content-length") or LARGEST_FORM + 1) > LARGEST_FORM:
        raise TooLarge("The form is too large.")
    form = await request.form()
    username, password, target = (str(form.get(name, "")) for name in ("username", "password", "next"))
    try:
        token = await signin.sign_in(parts.db, username.strip(), password)
    except SignInNeeded:
        return render(
            request,
            "signin.html",
            status=422,
            next=safe_next(target),
            username=username,
            error="That user name and password do not go together, or the account is not active.",
        )
    response = Redirect(safe_next(target), status_code=303)
    keep(response, parts.settings, token)
    return response


async def sign_out_form(request: AnyRequest, account: SignedIn) -> Response[Any]:
    """Asks for a click: looking at a page must not change anything."""
    return render(request, "signout.html", account=account)


async def sign_out(request: AnyRequest, parts: Registry) -> Response[Any]:
    if token := request.cookies.get(COOKIE):
        await signin.sign_out(parts.db, token)
    response = Redirect("/signin", status_code=303)
    response.delete_cookie(COOKIE)
    return response


async def code(request: AnyRequest, account: SignedIn, parts: Registry) -> Response[Any]:
    """Where `quilt login` leads: a code to paste into the client."""
    if account is None:
        return to_sign_in(request)
    shown = "" if request.method == "HEAD" else await signin.new_code(parts.db, account)
    return render(request, "code.html", account=account, code=shown, minutes=int(signin.CODE_LIFE.total_seconds() / 60))
