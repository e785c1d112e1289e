"""Where letters lead: signing up, activating, choosing a password."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.accounts import forgotten, links
from quilt_registry.catalog.reading import AnyRequest, Registry, SignedIn, client_address, read_form
from quilt_registry.catalog.rendering import render
from quilt_registry.errors import Invalid, Refusal, SignInNeeded
from quilt_registry.packages import joining

# What the wire says in words that old pages compare, said to people.
_PLAINLY = {
    "Invalid username.": "A user name begins with a lower-case letter, followed by lower-case letters, digits and _; "
    "64 characters at most. The names team, public, anonymous and quilt are taken.",
    "Invalid email.": "That is not a mail address.",
    "Username already taken.": "Somebody has this user name. Choose another one.",
    "Email already taken.": "There is an account with this mail address. Forgot its password? Ask for a new one.",
}
_DIFFERENT = "The two passwords are not the same."
# The address of the page holds a secret, which must not leave with a click.
_SECRET_ADDRESS = {"Referrer-Policy": "no-referrer"}


async def sign_up_form(request: AnyRequest, account: SignedIn) -> Response[Any]:
    if account:
        return Redirect("/", status_code=302)
    return render(request, "signup.html", username="", email="", error="")


async def sign_up(request: AnyRequest, parts: Registry) -> Response[Any]:
    username, email, password, again = await read_form(request, "username", "email", "password", "again")
    username, email = username.strip(), email.strip()
    try:
        if password != again:
            raise Invalid(_DIFFERENT)
        await joining.register(
            parts.db, parts.settings, parts.site, parts.limits, username, email, password, client_address(request)
        )
    except Refusal as error:
        status = 422 if error.status == Invalid.status else error.status
        says = _PLAINLY.get(error.message, error.message)
        return render(request, "signup.html", status=status, username=username, email=email, error=says)
    return render(request, "sent.html", title="Check your mail", email=email, about="activate your account")


async def activation_error(request: AnyRequest, account: SignedIn) -> Response[Any]:
    return render(request, "activation_error.html", account=account)


async def ask_form(request: AnyRequest) -> Response[Any]:
    return render(request, "reset.html", error="")


async def ask(request: AnyRequest, parts: Registry) -> Response[Any]:
    """The answer is the same whether there is such an account or not."""
    (email,) = await read_form(request, "email")
    try:
        await forgotten.ask(parts.db, parts.site, parts.limits, email.strip(), client_address(request))
    except Refusal as error:
        return render(request, "reset.html", status=error.status, error=error.message)
    return render(request, "sent.html", title="Check your mail", email=email, about="choose a new password")


async def choose_form(request: AnyRequest, parts: Registry, link: str) -> Response[Any]:
    """Looks at the link without using it up: programs that scan mail open it, too."""
    if not await links.is_good(parts.db, link, "reset"):
        return _gone(request)
    return _choose(request, "")


async def choose(request: AnyRequest, parts: Registry, link: str) -> Response[Any]:
    password, again = await read_form(request, "password", "again")
    try:
        if password != again:
            raise Invalid(_DIFFERENT)
        await forgotten.change_password(parts.db, link, password)
    except SignInNeeded:
        return _gone(request)
    except Invalid as error:
        return _choose(request, error.message, 422)
    return Redirect("/signin?changed=1", status_code=303)


def _choose(request: AnyRequest, error: str, status: int = 200) -> Response[Any]:
    response = render(request, "choose.html", status=status, error=error)
    response.headers.update(_SECRET_ADDRESS)
    return response


def _gone(request: AnyRequest) -> Response[Any]:
    response = render(request, "link_gone.html", status=410)
    response.headers.update(_SECRET_ADDRESS)
    return response
