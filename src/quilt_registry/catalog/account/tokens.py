"""Personal access tokens, and where the member is signed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.accounts import sessions, tokens
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.tokens import NameTaken, NewToken
from quilt_registry.catalog import confirmation, flash, forms
from quilt_registry.catalog.templates import render
from quilt_registry.errors import Conflict, Invalid
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

PATH = "/profile/tokens"
LIFETIMES = [("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year")]
ACCESS = [("read-only", "read-only: install and look"), ("read-write", "read-write: also push and share")]
EXPIRES_SOON = timedelta(days=7)
DEFAULTS = {"name": "", "expires": "90", "access": "read-only"}


async def page(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    return await _render(request, registry, session, form=DEFAULTS)


async def create(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """Create a token and show its secret, this one time."""
    form = dict(zip(DEFAULTS, forms.read(request, *DEFAULTS), strict=True))
    problems = _find_problems(form) or await confirmation.find_problems(request, session)
    if problems:
        return await _render(request, registry, session, 422, form=form, problems=problems)
    try:
        created = await tokens.create(
            registry.db, session, form["name"].strip(), int(form["expires"]), read_only=form["access"] == "read-only"
        )
    except (Conflict, Invalid) as error:
        problems = {"name" if isinstance(error, NameTaken | Invalid) else "": error.message}
        status = error.status if isinstance(error, Conflict) else 422
        return await _render(request, registry, session, status, form=form, problems=problems)
    return await _render(request, registry, session, form=DEFAULTS, created=created)


def _find_problems(form: dict[str, str]) -> dict[str, str]:
    problems = {} if form["name"].strip() else {"name": "Enter a name, for example that of the machine."}
    for field, options in (("expires", LIFETIMES), ("access", ACCESS)):
        if form[field] not in dict(options):
            problems[field] = "Choose one of the options."
    return problems


async def _render(
    request: AnyRequest,
    registry: Registry,
    session: Session,
    status: int = 200,
    **values: Any,
) -> Response[Any]:
    created: NewToken | None = values.get("created")
    shown = {
        "tokens": await tokens.list_personal(registry.db, session),
        "sessions": await sessions.list_sessions(registry.db, session),
        "asks_password": not session.confirmed and created is None,
        "soon": datetime.now(UTC) + EXPIRES_SOON,
        "lifetimes": LIFETIMES,
        "accesses": ACCESS,
        "created": created,
        "problems": {},
    }
    return render(request, "account/tokens.html", status, **shown | values)


# ------------------------------------------------------------------------------------------------ revocation


async def confirm_revocation(
    request: AnyRequest, session: Injected[Session], registry: Injected[Registry], token_id: FromPath[str]
) -> Response[Any]:
    """Ask before a token or session ends."""
    token = await tokens.find(registry.db, session, tokens.parse_id(token_id))
    return render(request, "account/revoke.html", token=token)


async def revoke(
    request: AnyRequest, session: Injected[Session], registry: Injected[Registry], token_id: FromPath[str]
) -> Response[Any]:
    await tokens.revoke(registry.db, session, tokens.parse_id(token_id))
    return flash.redirect(request, PATH, "It is revoked and no longer works.")


async def confirm_revocation_of_others(request: AnyRequest) -> Response[Any]:
    """Ask before everything but this session ends."""
    return render(request, "account/revoke.html", token=None)


async def revoke_others(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    await sessions.revoke_others(registry.db, session, only_browsers=False)
    return flash.redirect(request, PATH, "All others are revoked. Only this browser is signed in.")


async def sign_out_browsers(
    request: AnyRequest, session: Injected[Session], registry: Injected[Registry]
) -> Response[Any]:
    await sessions.revoke_others(registry.db, session, only_browsers=True)
    return flash.redirect(request, PATH, "All other browsers are signed out.")
