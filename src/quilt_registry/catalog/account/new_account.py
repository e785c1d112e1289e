"""The two fields of forms that create an account: username and email address."""

from __future__ import annotations

from quilt_registry.accounts import users
from quilt_registry.accounts.users import EmailTaken, NameTaken
from quilt_registry.errors import Refusal

NAME_RULE = (
    "A username starts with a lower-case letter, followed by lower-case letters, digits and _; 64 characters at most."
)


def find_problems(username: str, email: str) -> dict[str, str]:
    """Return what is wrong with the fields `username` and `email`, by field."""
    problems = {}
    if not username:
        problems["username"] = "Enter a username."
    elif not users.is_username(username):
        problems["username"] = NAME_RULE
    elif username in users.RESERVED_USERNAMES:
        problems["username"] = "This username is reserved. Choose another one."
    if not email:
        problems["email"] = "Enter an email address."
    elif not users.may_be_email(email):
        problems["email"] = "This is not a valid email address."
    return problems


def problem_of(error: Refusal) -> dict[str, str]:
    """Return why an account was not created, by field; "" for the whole form."""
    if isinstance(error, NameTaken):
        return {"username": "This username is taken. Choose another one."}
    if isinstance(error, EmailTaken):
        return {"email": "An account with this email address exists."}
    return {"": error.message}
