"""The JSON protocol that released clients speak: every call on one page. README.md in this folder explains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import HttpMethod, Request, Router
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler

from quilt_registry.errors import Invalid, NotFound
from quilt_registry.packages import access
from quilt_registry.wire import accounts, calling, history, objects, packages, session, sharing, system, tokens


def _call(methods: str, path: str, function: Callable[..., Any], reads: bool = False) -> HTTPRouteHandler:
    """A route. GET answers HEAD too. Paths that end with a slash are good without it, the others not with it.

    `reads`: changes nothing, whatever its method, so that tokens that may only read are good for it.
    """
    names = methods.replace("GET", "GET HEAD").split()
    return HTTPRouteHandler(
        path,
        http_method=[HttpMethod(name) for name in names],
        status_code=200,
        opt={"slash": path.endswith(("/", ":path}")), "changes": methods != "GET" and not reads},
    )(function)


def _calls() -> list[HTTPRouteHandler]:
    return [
        _call("GET", "/login", session.login_page),
        _call("POST", "/api/login", session.login),
        _call("POST", "/api/token", session.token),
        _call("POST", "/api/register", accounts.register),
        _call("GET", "/activate/{link:str}", accounts.activate),
        _call("POST", "/api/reset_password", accounts.ask_reset),
        _call("POST", "/api/change_password", accounts.change_password),
        _call("POST", "/api/refresh", session.refresh),
        _call("POST", "/api/logout", session.logout),
        _call("GET", "/api/me", session.me),
        _call("GET", "/api/code", session.code),
        _call("PUT", "/api/package/{owner:str}/{name:str}/{top_hash:str}", packages.push),
        _call("POST", "/api/package_update/{owner:str}/{name:str}/{path:path}", packages.push_part),
        _call("GET", "/api/package/{owner:str}/{name:str}/{top_hash:str}", packages.install),
        _call("POST", "/api/get_objects", packages.get_objects, reads=True),
        _call("GET", "/api/package/{owner:str}/", packages.list_owner),
        _call("GET", "/api/package/{owner:str}/{name:str}/", packages.list_hashes),
        _call("DELETE", "/api/package/{owner:str}/{name:str}/", packages.delete),
        _call("GET", "/api/package_preview/{owner:str}/{name:str}/{top_hash:str}", packages.preview),
        _call("GET", "/api/search/", packages.search),
        _call("GET", "/api/tag/{owner:str}/{name:str}/", history.list_tags),
        _call("GET", "/api/tag/{owner:str}/{name:str}/{tag:str}", history.get_tag),
        _call("PUT", "/api/tag/{owner:str}/{name:str}/{tag:str}", history.put_tag),
        _call("DELETE", "/api/tag/{owner:str}/{name:str}/{tag:str}", history.delete_tag),
        _call("GET", "/api/version/{owner:str}/{name:str}/", history.list_versions),
        _call("GET", "/api/version/{owner:str}/{name:str}/{version:str}", history.get_version),
        _call("PUT", "/api/version/{owner:str}/{name:str}/{version:str}", history.put_version),
        _call("GET", "/api/log/{owner:str}/{name:str}/", history.log),
        _call("GET", "/api/access/{owner:str}/{name:str}/", sharing.list_access),
        _call("GET", "/api/access/{owner:str}/{name:str}/{user:str}", sharing.get_access),
        _call("PUT", "/api/access/{owner:str}/{name:str}/{user:str}", sharing.put_access),
        _call("DELETE", "/api/access/{owner:str}/{name:str}/{user:str}", sharing.delete_access),
        _call("GET", "/api/invite/", sharing.my_invitations),
        _call("GET", "/api/invite/{owner:str}/{name:str}/", sharing.package_invitations),
        _call("GET", "/api/profile", sharing.profile),
        _call("POST", "/api/users/create", accounts.create),
        _call("POST", "/api/users/disable", accounts.disable),
        _call("POST", "/api/users/enable", accounts.enable),
        _call("POST", "/api/users/grant_admin", accounts.grant_admin),
        _call("POST", "/api/users/revoke_admin", accounts.revoke_admin),
        _call("POST", "/api/users/reset_password", accounts.reset_password),
        _call("POST", "/api/users/delete", accounts.delete),
        _call("GET", "/api/v1/tokens", tokens.list_tokens),
        _call("POST", "/api/v1/tokens", tokens.create_token),
        _call("DELETE", "/api/v1/tokens/{token_id:str}", tokens.revoke_token),
        _call("POST", "/api/log", system.client_log, reads=True),
        _call("GET", "/healthcheck", system.healthcheck),
        _call("GET", "/robots.txt", system.robots),
        _call("GET", "/objects/{key:path}", objects.get),
        _call("PUT", "/objects/{key:path}", objects.put),
    ]


def router() -> Router:
    """All calls, with what they may ask for by name: who is calling, and the request's body."""
    return Router(
        "/",
        route_handlers=_calls(),
        before_request=_check,
        dependencies={
            "visitor": Provide(calling.visitor),
            "caller": Provide(calling.caller),
            "session": Provide(calling.session),
            "member": Provide(calling.member),
            "admin": Provide(calling.admin),
        },
    )


async def _check(request: Request[Any, Any, Any]) -> None:
    """Refuse what no caller may have, before it is asked who calls."""
    path = calling.address(request)
    if "%00" in path:
        raise Invalid("The address holds a NUL character.")
    if path.endswith("/") and not request.route_handler.opt["slash"]:
        raise NotFound("There is nothing at this address.")
    if path.startswith("/api/users/"):
        access.check_user_endpoints(request.app.state.settings.enable_user_endpoints)
