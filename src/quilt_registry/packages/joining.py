"""Coming to this registry: signing up, where that is allowed, and signing in, with all that one was invited to."""

from __future__ import annotations

from quilt_registry import limits
from quilt_registry.accounts import signin, signup, users
from quilt_registry.accounts.signin import Token
from quilt_registry.database import Database
from quilt_registry.errors import Forbidden, Invalid, NotOffered
from quilt_registry.letters import Site
from quilt_registry.limits import Limits
from quilt_registry.packages import invitations
from quilt_registry.settings import Settings


async def register(
    db: Database, settings: Settings, site: Site, limited: Limits, name: str, email: str, password: str, address: str
) -> None:
    """Make an account that its letter's link activates; `address` is where the caller is.

    Raises NotOffered, TooMany, Invalid, Forbidden for whom sign-up is not open, Conflict.
    """
    if settings.signup == "closed":
        raise NotOffered("Signup is disabled.")
    await limited.take(limits.SIGN_UP, address)
    try:
        await _check_may_sign_up(db, settings, name, email)
        await signup.register(db, site, name, email, password)
    except Invalid:  # a slip: it tells nobody who is here
        await limited.give_back(limits.SIGN_UP, address)
        raise


async def _check_may_sign_up(db: Database, settings: Settings, name: str, email: str) -> None:
    users.check(name, email)
    if settings.signup == "invited" and not await _may_sign_up(db, settings, email):
        raise Forbidden(
            "Only invited people can sign up here. Ask an admin for an account, or somebody of the team to share a "
            "package with your mail address."
        )


async def _may_sign_up(db: Database, settings: Settings, email: str) -> bool:
    domain = email.rpartition("@")[2].lower()
    return domain in settings.signup_domain_list or await invitations.is_invited(db, email)


async def sign_in(db: Database, limited: Limits, name: str, password: str, address: str) -> Token:
    """Sign in on a page, and claim invitations. Raises SignInNeeded, TooMany."""
    token = await signin.sign_in(db, limited, name, password, address)
    await invitations.claim(db, token.account)
    return token


async def exchange(db: Database, secret: str) -> Token:
    """Sign a client in with a code, or on with its token, and claim invitations. Raises SignInNeeded."""
    token = await signin.exchange(db, secret)
    await invitations.claim(db, token.account)
    return token
