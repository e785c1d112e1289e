"""Fields of the URLs of lists. What means nothing counts as absent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from quilt_registry.web.requests import AnyRequest

T = TypeVar("T", bound=str)

MAX_TEXT_LENGTH = 320  # characters, as long as an email address may be


def text(request: AnyRequest, name: str) -> str:
    """Return a text without what the database cannot hold."""
    return request.query_params.get(name, "").replace("\0", "").strip()[:MAX_TEXT_LENGTH]


def choice(request: AnyRequest, name: str, options: Iterable[T]) -> T | None:
    """Return the option that a field names."""
    given = request.query_params.get(name)
    return next((option for option in options if option == given), None)
