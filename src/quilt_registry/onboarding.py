"""Sign-up and sign-in, after which invitations become access. Above `packages` and `accounts`, because it uses both."""

from __future__ import annotations

from quilt_registry import rate_limits
from quilt_registry.accounts import codes, rights, signin, signup, users
from quilt_registry.accounts.sessions import Token
from quilt_registry.accounts.signin import Attempt
from quilt_registry.accounts.signup import Registration
from quilt_registry.database import Database
from quilt_registry.errors import Invalid
from quilt_registry.packages import invitations
from quilt_registry.rate_limits import RateLimits
from quilt_registry.services import Services
from quilt_registry.settings import Settings


async def register(services: Services, settings: Settings, new: Registration, client_ip: str) -> None:
    """Create an account that the link in its email activates.

    Raise NotOffered, TooMany, Invalid, Conflict, or Forbidden if the email address may not sign up.
    """
    rights.check_signup_offered(settings)
    await services.limits.hit(rate_limits.SIGN_UP, client_ip)
    try:
        users.check(new.username, new.email)
        invited = await invitations.is_invited(services.db, new.email)
        rights.check_may_sign_up(settings, new.email, invited=invited)
        await signup.register(services.db, services.site, new)
    except Invalid:  # Invalid input does not count, because the error reveals nothing about accounts.
        await services.limits.refund(rate_limits.SIGN_UP, client_ip)
        raise


async def sign_in(db: Database, limits: RateLimits, attempt: Attempt) -> Token:
    """Sign in on a page and claim invitations. Raise SignInNeeded, TooMany or Invalid."""
    token = await signin.sign_in(db, limits, attempt)
    await invitations.claim(db, token.account)
    return token


async def exchange(db: Database, code_or_token: str) -> Token:
    """Exchange a client's code or token for a new token and claim invitations. Raise SignInNeeded."""
    token = await codes.exchange(db, code_or_token)
    await invitations.claim(db, token.account)
    return token
