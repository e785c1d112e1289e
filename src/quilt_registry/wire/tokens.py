"""One's own tokens: listed, made for machines, revoked."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.accounts import tokens
from quilt_registry.errors import NotFound
from quilt_registry.wire import shapes
from quilt_registry.wire.calling import AnyRequest, LiveSession, Registry
from quilt_registry.wire.messages import json, read


class NewToken(Struct, forbid_unknown_fields=True):
    name: str
    days: int = 90
    read_only: bool = False


async def list_tokens(session: LiveSession, parts: Registry) -> Response[Any]:
    """One's own live tokens and sign-ins, the newest first."""
    return json(shapes.Tokens(await tokens.of_account(parts.db, session)))


async def create_token(request: AnyRequest, session: LiveSession, parts: Registry) -> Response[Any]:
    """Make a personal token. Its text is shown this once."""
    asked = await read(request, NewToken)
    return json(await tokens.create(parts.db, session, asked.name, asked.days, asked.read_only))


async def revoke_token(session: LiveSession, parts: Registry, token_id: str) -> Response[Any]:
    """End a token or a sign-in at once."""
    if not (token_id.isascii() and token_id.isdigit() and len(token_id) < 19):
        raise NotFound("There is no such token.")
    await tokens.revoke(parts.db, session, int(token_id))
    return json({})
