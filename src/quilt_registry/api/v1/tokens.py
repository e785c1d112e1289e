"""The caller's tokens: personal access tokens and sessions."""

from __future__ import annotations

from litestar.params import FromPath, JSONBody
from msgspec import Struct

from quilt_registry.accounts import tokens
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.tokens import NewToken, TokenInfo
from quilt_registry.api.messages import Empty
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected


class TokenRequest(Struct, forbid_unknown_fields=True):
    """A personal access token to create. It expires after `days`."""

    name: str
    days: int = 90
    read_only: bool = False


class TokenList(Struct):
    """Personal access tokens and sessions."""

    tokens: list[TokenInfo]


async def list_tokens(session: Injected[Session], registry: Injected[Registry]) -> TokenList:
    """List the caller's valid personal access tokens and sessions, newest first."""
    return TokenList(await tokens.list_tokens(registry.db, session))


async def create_token(
    session: Injected[Session], registry: Injected[Registry], data: JSONBody[TokenRequest]
) -> NewToken:
    """Create a personal access token, whose text is returned only once."""
    return await tokens.create(registry.db, session, data.name, data.days, read_only=data.read_only)


async def revoke_token(session: Injected[Session], registry: Injected[Registry], token_id: FromPath[str]) -> Empty:
    """Revoke one of the caller's personal access tokens or sessions."""
    await tokens.revoke(registry.db, session, tokens.parse_id(token_id))
    return Empty()
