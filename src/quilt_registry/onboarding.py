"""Sign-up and sign-in, after which invitations become access. Above `packages` and `accounts`, because it uses both."""

from __future__ import annotations

import hmac

from msgspec import Struct

from quilt_registry import rate_limits
from quilt_registry.accounts import codes, email_links, rights, signin, signup, users
from quilt_registry.accounts.sessions import Token
from quilt_registry.accounts.signin import Attempt
from quilt_registry.accounts.signup import Registration
from quilt_registry.database import Database
from quilt_registry.errors import Invalid
from quilt_registry.mail.site import Site
from quilt_registry.packages import invitations
from quilt_registry.packages.invitations import InvitedPackage
from quilt_registry.rate_limits import RateLimits
from quilt_registry.services import Services
from quilt_registry.settings import Settings


async def register(services: Services, settings: Settings, new: Registration, client_ip: str) -> str:
    """Create an account that the link in its email activates. Return the link's secret.

    Raise NotOffered, TooMany, Invalid, Conflict, or Forbidden if the email address may not sign up.
    """
    rights.check_signup_offered(settings)
    await services.limits.hit(rate_limits.SIGN_UP, client_ip)
    try:
        users.check(new.username, new.email)
        invited = await invitations.is_invited(services.db, new.email)
        rights.check_may_sign_up(settings, new.email, invited=invited)
        email_proven = new.email.lower() == await invitations.find_email(services.db, new.invitation)
        return await signup.register(services.db, services.site, new, email_proven=email_proven)
    except Invalid:  # Invalid input does not count, because the error reveals nothing about accounts.
        await services.limits.refund(rate_limits.SIGN_UP, client_ip)
        raise


async def activate(db: Database, site: Site, link: str, browser_proof: str) -> bool:
    """Activate the account of a link in an email. Return False if the link is invalid.

    Another person may have signed up with an invited email address, and a program that checks email may open the link.
    So the link proves that address only in the browser that signed up.
    """
    account = await signup.activate(db, site, link)
    if account is None:
        return False
    is_same_browser = hmac.compare_digest(browser_proof.encode(), email_links.browser_proof(link).encode())
    if is_same_browser or not await invitations.is_invited(db, account.email):
        await users.prove_email(db, account.id)
    return True


class SignedIn(Struct, frozen=True):
    """A new session, and the packages that invitations gave its account access to."""

    token: Token
    claimed: list[InvitedPackage]


async def sign_in(db: Database, limits: RateLimits, attempt: Attempt) -> SignedIn:
    """Sign in on a page and claim invitations. Raise SignInNeeded, TooMany or Invalid."""
    token = await signin.sign_in(db, limits, attempt)
    return SignedIn(token, await invitations.claim(db, token.account))


async def exchange(db: Database, code_or_token: str) -> Token:
    """Exchange a client's code or token for a new token and claim invitations. Raise SignInNeeded."""
    token = await codes.exchange(db, code_or_token)
    await invitations.claim(db, token.account)
    return token
