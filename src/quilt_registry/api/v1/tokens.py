"""The caller's tokens: list, create personal ones, revoke."""

from __future__ import annotations

from litestar.params import FromPath, JSONBody
from msgspec import Struct

from quilt_registry.accounts import tokens
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.tokens import NewToken, TokenInfo
from quilt_registry.api.messages import Empty
from quilt_registry.errors import NotFound
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected


class TokenRequest(Struct, forbid_unknown_fields=True):
    """A personal token to create. It expires after `days`."""

    name: str
    days: int = 90
    read_only: bool = False


class TokenList(Struct):
    """Tokens and sign-ins."""

    tokens: list[TokenInfo]


async def list_tokens(session: Injected[Session], registry: Injected[Registry]) -> TokenList:
    """List the caller's valid tokens and sign-ins, newest first."""
    return TokenList(await tokens.of_account(registry.db, session))


async def create_token(
    session: Injected[Session], registry: Injected[Registry], data: JSONBody[TokenRequest]
) -> NewToken:
    """Create a personal token. Its text is shown only once."""
    return await tokens.create(registry.db, session, data.name, data.days, read_only=data.read_only)


async def revoke_token(session: Injected[Session], registry: Injected[Registry], token_id: FromPath[str]) -> Empty:
    """Revoke a token or a sign-in."""
    if not (token_id.isascii() and token_id.isdigit() and len(token_id) < 19):
        raise NotFound("There is no such token.")
    await tokens.revoke(registry.db, session, int(token_id))
    return Empty()
