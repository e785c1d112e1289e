"""The password again, before acts that a stolen session must not do."""

from __future__ import annotations

from quilt_registry.accounts import rights, signin
from quilt_registry.accounts.sessions import Origin, Session
from quilt_registry.accounts.signin import Attempt
from quilt_registry.catalog import forms
from quilt_registry.errors import Forbidden, Invalid, SignInNeeded
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest, client_ip

FIELD = "confirm_password"


async def find_problems(request: AnyRequest, session: Session) -> dict[str, str]:
    """Check the password in a form with `ui.confirm_field`, unless it was checked lately. Return what is wrong.

    Raise TooMany.
    """
    try:
        rights.check_confirmed(session)
    except Forbidden as error:
        (password,) = forms.read(request, FIELD)
        if not password:
            return {FIELD: error.message}
        registry = registry_of(request)
        attempt = Attempt(session.account.name, password, client_ip(request), Origin())
        try:
            await signin.confirm(registry.db, registry.limits, session, attempt)
        except (SignInNeeded, Invalid):
            return {FIELD: "This is not your password."}
    return {}
