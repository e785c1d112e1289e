"""The pages for resetting a password: request a link by email, then choose a new password."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.accounts import password_reset
from quilt_registry.accounts.password_reset import ResetLink
from quilt_registry.catalog import flash, forms
from quilt_registry.catalog.account.new_password import find_problems
from quilt_registry.catalog.account.pages import NO_REFERRER, render
from quilt_registry.errors import SignInNeeded, TooMany
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip

PATH = "/reset_password"


async def request_form(request: AnyRequest) -> Response[Any]:
    return _render(request, "account/reset.html", email="", problems={})


async def request_reset(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Send the link. The page is the same whether the account exists or not."""
    email = forms.read(request, "email")[0].strip()
    if not email:
        problems = {"email": "Enter your email address."}
        return _render(request, "account/reset.html", 422, email="", problems=problems)
    try:
        await password_reset.request(registry.db, registry.site, registry.limits, email, client_ip(request))
    except TooMany as error:
        response = _render(request, "account/reset.html", error.status, email=email, problems={"": error.message})
        response.headers.update(error.headers or {})
        return response
    return _render(request, "account/sent.html", email=email, purpose="reset")


async def choose_form(request: AnyRequest, registry: Injected[Registry], link: FromPath[str]) -> Response[Any]:
    """Check the link without redeeming it, because programs that scan email open links."""
    found = await password_reset.find_link(registry.db, link)
    return _form(request, found) if found else _expired(request)


async def choose(request: AnyRequest, registry: Injected[Registry], link: FromPath[str]) -> Response[Any]:
    password, again = forms.read(request, "password", "again")
    found = await password_reset.find_link(registry.db, link)
    if found is None:
        return _expired(request)
    if problems := find_problems(password, again):
        return _form(request, found, problems)
    try:
        await password_reset.change_password(registry.db, link, password)
    except SignInNeeded:
        return _expired(request)
    message = "Your password has been changed. Sign in with the new password."
    response = flash.redirect(request, "/signin", "Your password is set. Sign in with it." if found.is_new else message)
    response.headers.update(NO_REFERRER)
    return response


def _form(request: AnyRequest, link: ResetLink, problems: dict[str, str] | None = None) -> Response[Any]:
    values = {"link": link, "problems": problems or {}}
    return _render(request, "account/choose.html", 422 if problems else 200, **values)


def _expired(request: AnyRequest) -> Response[Any]:
    return _render(request, "account/link_expired.html", 410)


def _render(request: AnyRequest, template: str, status: int = 200, **values: Any) -> Response[Any]:
    """Return a page that does not name its own URL, which may hold a secret."""
    return render(request, template, status, here=PATH, **values)
