"""Events of the audit trail in words."""

from __future__ import annotations

from quilt_registry.audit import Client, Event

GROUPS: dict[str, dict[str, str]] = {
    "Packages": {
        "PUSH": "Push",
        "INSTALL": "Install",
        "PREVIEW": "View",
        "TAG_SET": "Set tag",
        "TAG_DELETE": "Remove tag",
        "VERSION_SET": "Add version",
        "COMMENT": "Comment",
        "COMMENT_DELETE": "Delete comment",
        "DELETE": "Delete package",
    },
    "Sharing": {
        "ACCESS_GRANT": "Share",
        "ACCESS_REVOKE": "Stop sharing",
        "INVITE": "Invite",
        "INVITE_CANCEL": "Cancel invitation",
        "INVITE_CLAIM": "Accept invitation",
    },
    "Accounts": {
        "ACCOUNT_CREATE": "Create account",
        "ACCOUNT_REGISTER": "Sign up",
        "ACCOUNT_ACTIVATE": "Activate account",
        "ACCOUNT_LAPSE": "Sign-up expired",
        "ACCOUNT_DISABLE": "Disable account",
        "ACCOUNT_ENABLE": "Enable account",
        "ADMIN_GRANT": "Grant admin",
        "ADMIN_REVOKE": "Revoke admin",
        "PASSWORD_RESET": "Reset password",
        "PASSWORD_CHANGE": "Change password",
        "AUDIT_EXPORT": "Export audit trail",
    },
    "Sign-ins": {"SIGN_IN": "Sign in", "SIGN_IN_FAILED": "Failed sign-in", "SIGN_OUT": "Sign out"},
    "Tokens": {"TOKEN_CREATE": "Create token", "TOKEN_REVOKE": "Revoke token"},
}
WORDS = {kind: word for group in GROUPS.values() for kind, word in group.items()}
CLIENTS: dict[Client, str] = {"cli": "command line", "web": "web", "other": "other"}
# Fields of `extra` that are shown, with a word before them.
_DETAILS = {
    "subpath": "",
    "tag": "tag",
    "version": "version",
    "email": "",
    "name": "token",
    "with": "with",
    "address": "from",
    "filter": "",
    "rows": "events:",
}


def details(event: Event) -> str:
    """Return what else is known about an event."""
    extra = event.extra or {}
    found = [f"{word} {extra[field]}".strip() for field, word in _DETAILS.items() if extra.get(field)]
    if extra.get("others") or extra.get("everywhere"):
        found.append("everywhere")
    return " · ".join(found)
