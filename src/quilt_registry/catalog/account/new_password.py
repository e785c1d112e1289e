"""The two fields of forms in which a user chooses a password."""

from __future__ import annotations

from quilt_registry.accounts import passwords
from quilt_registry.errors import Invalid

PASSWORDS_DIFFER = "The passwords do not match."


def find_problems(password: str, again: str) -> dict[str, str]:
    """Return what is wrong with the fields `password` and `again`, by field."""
    if not password:
        return {"password": "Enter a password."}
    try:
        passwords.check(password)
    except Invalid as error:
        return {"password": error.message}
    return {"again": PASSWORDS_DIFFER} if password != again else {}
