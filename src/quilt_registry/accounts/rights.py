"""Who may do what with accounts and sessions: the only file that decides. Packages: packages/access.py.

Admins manage accounts and read the audit. A personal token stands for its owner, but may be one that only reads, and
it never issues other credentials: what it made would outlive it.
"""

from __future__ import annotations

from typing import Literal

from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.users import Account
from quilt_registry.errors import Forbidden, Invalid, NotOffered, SignInNeeded
from quilt_registry.settings import Settings

Who = Literal["anybody", "visitor", "caller", "member", "admin"]
"""Who may use a route: *anybody*, whose token is not looked at; a *visitor*, who need not sign in, but a token that is
sent must be valid; a *caller*, who may look at this registry; a *member*, who is signed in; an *admin*."""


def check_who(who: Who, session: Session | None, *, anonymous: bool) -> None:
    """Raise SignInNeeded or Forbidden unless the session may use a route; `anonymous`: the registry shows something
    to people who are not signed in.
    """
    if session is None and (who in ("member", "admin") or (who == "caller" and not anonymous)):
        raise SignInNeeded("Not logged in")
    if who == "admin" and not (session and session.account.is_admin):
        raise Forbidden("Must be authenticated as an admin to use this endpoint.")


def check_active(account: Account) -> None:
    """Raise Forbidden for an account that is disabled or was never activated."""
    if not account.is_active:
        raise Forbidden("Account is inactive. Must have an active account.")


def check_user_endpoints(enabled: bool) -> None:
    """Raise Invalid, for every caller, where accounts are not managed through the API."""
    if not enabled:
        raise Invalid("This endpoint is not enabled.")


# ------------------------------------------------------------------------------------------------ tokens


def check_may_change(session: Session) -> None:
    """Raise Forbidden for a read-only token."""
    if session.read_only:
        raise Forbidden("This token may only read. Use one that may write, or sign in.")


def may_claim_invitations(session: Session) -> bool:
    """Return whether reading the profile may turn invitations into access: not with a read-only token."""
    return not session.read_only


def may_use_pages(session: Session) -> bool:
    """Return whether a session may be a browser's: personal tokens are for machines."""
    return session.account.is_active and not session.personal


def check_renew(session: Session) -> None:
    """Raise Forbidden for a personal token, which is not renewed."""
    if session.personal:
        raise Forbidden("A personal token cannot be renewed. Make a new one.")


def check_issue_code(session: Session) -> None:
    """Raise Forbidden for a personal token: a code would make it a sign-in that can do more and lives longer."""
    if session.personal:
        raise Forbidden("A personal token cannot sign a client in. Use it as it is, or sign in with the password.")


def check_create_token(session: Session) -> None:
    """Raise Forbidden for a personal token, which makes no other tokens."""
    if session.personal:
        raise Forbidden("A personal token cannot make tokens. Sign in with the password to do that.")


def check_revoke_token(session: Session, token_id: int) -> None:
    """Raise Forbidden for a personal token that would revoke another token than itself."""
    if session.personal and token_id != session.token_id:
        raise Forbidden("A personal token can end only itself. Sign in with the password to end others.")


# ------------------------------------------------------------------------------------------------ accounts


def check_disable(admin: Account, name: str) -> None:
    """Raise Forbidden for an admin who would disable themselves."""
    if name == admin.name:
        raise Forbidden("Can't disable yourself")


def check_revoke_admin(admin: Account, name: str) -> None:
    """Raise Forbidden for an admin who would revoke their own admin rights."""
    if name == admin.name:
        raise Forbidden("Can't revoke yourself")


def check_signup_offered(settings: Settings) -> None:
    """Raise NotOffered where sign-up is closed."""
    if settings.signup == "closed":
        raise NotOffered("Signup is disabled.")


def check_may_sign_up(settings: Settings, email: str, *, invited: bool) -> None:
    """Raise Forbidden unless an email address may sign up; `invited`: it has an open invitation."""
    domain = email.rpartition("@")[2].lower()
    if settings.signup == "invited" and not invited and domain not in settings.signup_domain_list:
        raise Forbidden(
            "Sign-up is by invitation. Ask an admin for an account, or ask a team member to share a package with your "
            "email address."
        )
