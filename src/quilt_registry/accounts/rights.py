"""Rights to accounts and sessions. Those to packages are in packages/access.py.

Admins manage accounts and read the audit trail. A personal token acts for its owner, possibly read-only. It never
issues other credentials, because they would outlive it.
"""

from __future__ import annotations

from typing import Literal

from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.users import Account
from quilt_registry.errors import Forbidden, Invalid, NotOffered, SignInNeeded
from quilt_registry.settings import Settings

Who = Literal["anybody", "visitor", "caller", "member", "admin"]
"""Who may use a route.

- anybody: everyone; a token is ignored
- visitor: everyone, but a token must be valid if one is sent
- caller: users who are signed in, and everyone if the registry allows anonymous access
- member: users who are signed in
- admin: admins
"""


def check_who(who: Who, session: Session | None, *, anonymous: bool) -> None:
    """Raise SignInNeeded or Forbidden unless a session may use a route.

    `anonymous` means that the registry allows anonymous access.
    """
    if session is None and (who in ("member", "admin") or (who == "caller" and not anonymous)):
        raise SignInNeeded("Not logged in")
    if who == "admin" and not (session and session.account.is_admin):
        raise Forbidden("Must be authenticated as an admin to use this endpoint.")


def check_active(account: Account) -> None:
    """Raise Forbidden if an account is disabled or was never activated."""
    if not account.is_active:
        raise Forbidden("Account is inactive. Must have an active account.")


def check_user_endpoints(*, enabled: bool) -> None:
    """Raise Invalid, for every caller, if the registry does not offer account management through the API."""
    if not enabled:
        raise Invalid("This endpoint is not enabled.")


def check_manages_accounts(settings: Settings) -> None:
    """Raise NotOffered if admins cannot manage accounts here."""
    if not settings.enable_user_endpoints:
        raise NotOffered("Accounts are not managed here, because the setting ENABLE_USER_ENDPOINTS is off.")


# ------------------------------------------------------------------------------------------------ tokens


def check_may_change(session: Session) -> None:
    """Raise Forbidden for a read-only token."""
    if session.read_only:
        raise Forbidden("This token is read-only. Use a token that can write, or sign in.")


def may_claim_invitations(session: Session) -> bool:
    """Return whether reading the profile turns invitations into access. A read-only token must not change anything."""
    return not session.read_only


def may_use_pages(session: Session) -> bool:
    """Return whether a browser may use a session. Personal tokens are for machines."""
    return session.account.is_active and not session.personal


def check_renew(session: Session) -> None:
    """Raise Forbidden for a personal token."""
    if session.personal:
        raise Forbidden("A personal token cannot be renewed. Create a new one.")


def check_issue_code(session: Session) -> None:
    """Raise Forbidden for a personal token: a code would turn it into a session with more rights and a longer life."""
    if session.personal:
        raise Forbidden(
            "A personal token cannot create sign-in codes. Use the token itself, or sign in with your password."
        )


def check_create_token(session: Session) -> None:
    """Raise Forbidden for a personal token."""
    if session.personal:
        raise Forbidden("A personal token cannot create tokens. Sign in with your password.")


def check_confirmed(session: Session) -> None:
    """Raise Forbidden if the password was not checked lately: acts that a stolen session must not do need it."""
    if not session.confirmed:
        raise Forbidden("Enter your password, because your sign-in is older than 15 minutes.")


def check_revoke_token(session: Session, token_id: int) -> None:
    """Raise Forbidden if a personal token would revoke another token than itself."""
    if session.personal and token_id != session.token_id:
        raise Forbidden("A personal token can revoke only itself. Sign in with your password to revoke other tokens.")


# ------------------------------------------------------------------------------------------------ accounts


def check_disable(admin: Account, name: str) -> None:
    """Raise Forbidden if an admin would disable their own account."""
    if name == admin.name:
        raise Forbidden("Can't disable yourself")


def check_revoke_admin(admin: Account, name: str) -> None:
    """Raise Forbidden if an admin would revoke their own admin rights."""
    if name == admin.name:
        raise Forbidden("Can't revoke yourself")


def check_signup_offered(settings: Settings) -> None:
    """Raise NotOffered if sign-up is closed."""
    if settings.signup == "closed":
        raise NotOffered("Signup is disabled.")


def check_may_sign_up(settings: Settings, email: str, *, invited: bool) -> None:
    """Raise Forbidden unless an email address may sign up. `invited` means that it has an open invitation."""
    domain = email.rpartition("@")[2].lower()
    if settings.signup == "invited" and not invited and domain not in settings.signup_domain_list:
        raise Forbidden(
            "Sign-up is by invitation. Ask an admin for an account, or ask a team member to share a package with your "
            "email address."
        )
