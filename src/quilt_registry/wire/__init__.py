"""The JSON protocol that released clients speak: every call on one page. README.md in this folder explains them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from litestar import HttpMethod, Request, Router
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from quilt_registry.accounts.tokens import Made
from quilt_registry.errors import Invalid, NotFound
from quilt_registry.events import Kind
from quilt_registry.packages import access
from quilt_registry.packages.comments import Page
from quilt_registry.packages.search import Found
from quilt_registry.wire import (
    accounts,
    activity,
    admin,
    audit,
    calling,
    comments,
    history,
    objects,
    packages,
    queries,
    session,
    shapes,
    sharing,
    system,
    tokens,
)
from quilt_registry.wire.describing import Call, Query

SUBPATH = Query("subpath", str, "only the objects below this path of node names")
META_ONLY = Query("meta_only", str, "true: only metadata objects")
WORDS = Query("q", str, "words, all of which must occur; the last may be a beginning")
LIMIT = Query("limit", Annotated[int, Meta(ge=1, le=1000)], "most rows of a page; absent: everything")
AFTER = Query("after", str, "`next` of the page before")
COUNT = Query("count", str, "how many, 10 if it is no number, at most 100")
COMMENTS_LIMIT = Query("limit", Annotated[int, Meta(ge=1, le=100)], "most comments of a page; absent: all of them")
COMMENTS_AFTER = Query("after", Annotated[int, Meta(ge=0, le=queries.HIGHEST)], "`next` of the page before")
AUDIT = (
    Query("user", str, "who did it"),
    Query("subject", str, "the account it was done to"),
    Query("package", Annotated[str, Meta(pattern="/")], "OWNER/NAME of a package, which may have been deleted"),
    Query("kind", list[Kind], "kinds of events; absent: all"),
    Query("since", datetime, "nothing before this time"),
    Query("until", datetime, "nothing at or after this time"),
    Query("limit", Annotated[int, Meta(ge=1, le=1000)], "most events of a page; 100 if absent"),
    Query("before", Annotated[int, Meta(ge=0, le=queries.HIGHEST)], "`next` of the page before"),
)

PACKAGE = "{owner:str}/{name:str}"
TEXT, BYTES = "text/plain", "application/octet-stream"
PUSH: dict[str, Any] = {"takes": shapes.PushBody, "gives": (shapes.Pushed, shapes.ToUpload), "refuses": (404, 409, 507)}


def calls() -> list[Call]:
    """Every call."""
    return [
        Call("GET", "/login", session.login_page, status=302),
        Call("POST", "/api/login", session.login, takes=session.Credentials, gives=shapes.Token, refuses=(429,)),
        Call("POST", "/api/token", session.token, takes=session.SECRET, gives=shapes.Exchanged),
        Call("POST", "/api/refresh", session.refresh, gives=shapes.Token),
        Call("POST", "/api/logout", session.logout),
        Call("GET", "/api/me", session.me, gives=shapes.Me),
        Call("GET", "/api/code", session.code, gives=shapes.Code),
        Call("POST", "/api/register", accounts.register, takes=accounts.Registration, refuses=(409, 429, 501)),
        Call("GET", "/activate/{link:str}", accounts.activate, status=302),
        Call("POST", "/api/reset_password", accounts.ask_reset, takes=accounts.Reset, refuses=(429,)),
        Call("POST", "/api/change_password", accounts.change_password, takes=accounts.NewPassword),
        Call("PUT", f"/api/package/{PACKAGE}/{{top_hash:str}}", packages.push, **PUSH),
        Call("POST", f"/api/package_update/{PACKAGE}/{{path:path}}", packages.push_part, **PUSH),
        Call(
            "GET",
            f"/api/package/{PACKAGE}/{{top_hash:str}}",
            packages.install,
            gives=shapes.Installed,
            query=(SUBPATH, META_ONLY),
            refuses=(409,),
        ),
        Call("POST", "/api/get_objects", packages.get_objects, reads=True, takes=list[str], gives=shapes.ObjectUrls),
        Call("GET", "/api/package/{owner:str}/", packages.list_owner, gives=shapes.OfOwner),
        Call("GET", f"/api/package/{PACKAGE}/", packages.list_hashes, gives=shapes.Hashes),
        Call("DELETE", f"/api/package/{PACKAGE}/", packages.delete),
        Call("GET", f"/api/package_preview/{PACKAGE}/{{top_hash:str}}", packages.preview, gives=shapes.Preview),
        Call("GET", "/api/recent_packages/", activity.recent, gives=activity.Recent, query=(COUNT,)),
        Call("GET", f"/api/package_timeseries/{PACKAGE}/{{event:str}}", activity.series, gives=activity.Series),
        Call("GET", "/api/search/", packages.search, gives=Found, query=(WORDS, LIMIT, AFTER)),
        Call("GET", "/api/profile", sharing.profile, gives=shapes.Profile),
        Call("GET", f"/api/tag/{PACKAGE}/", history.list_tags, gives=shapes.Tags),
        Call("GET", f"/api/tag/{PACKAGE}/{{tag:str}}", history.get_tag, gives=shapes.Tagged),
        Call("PUT", f"/api/tag/{PACKAGE}/{{tag:str}}", history.put_tag, takes=history.Pointer),
        Call("DELETE", f"/api/tag/{PACKAGE}/{{tag:str}}", history.delete_tag),
        Call("GET", f"/api/version/{PACKAGE}/", history.list_versions, gives=shapes.Versions),
        Call("GET", f"/api/version/{PACKAGE}/{{version:str}}", history.get_version, gives=shapes.Instance),
        Call(
            "PUT",
            f"/api/version/{PACKAGE}/{{version:str}}",
            history.put_version,
            takes=history.Pointer,
            refuses=(409,),
        ),
        Call("GET", f"/api/log/{PACKAGE}/", history.log, gives=shapes.Log),
        Call(
            "GET",
            f"/api/comments/{PACKAGE}/",
            comments.list_comments,
            gives=(comments.Comments, Page),
            query=(COMMENTS_LIMIT, COMMENTS_AFTER),
        ),
        Call(
            "POST",
            f"/api/comments/{PACKAGE}/",
            comments.post,
            takes=comments.NewComment,
            gives=comments.Posted,
            refuses=(429,),
        ),
        Call("DELETE", f"/api/comments/{PACKAGE}/{{comment_id:str}}", comments.delete),
        Call("GET", f"/api/access/{PACKAGE}/", sharing.list_access, gives=shapes.Access),
        Call("GET", f"/api/access/{PACKAGE}/{{user:str}}", sharing.get_access),
        Call("PUT", f"/api/access/{PACKAGE}/{{user:str}}", sharing.put_access, refuses=(409, 429)),
        Call("DELETE", f"/api/access/{PACKAGE}/{{user:str}}", sharing.delete_access),
        Call("GET", "/api/invite/", sharing.my_invitations, gives=shapes.Invitations),
        Call("GET", f"/api/invite/{PACKAGE}/", sharing.package_invitations, gives=shapes.Invitations),
        Call("POST", "/api/users/create", accounts.create, takes=accounts.NewUser, refuses=(409,)),
        Call("POST", "/api/users/disable", accounts.disable, takes=accounts.User, refuses=(404, 409)),
        Call("POST", "/api/users/enable", accounts.enable, takes=accounts.User, refuses=(404,)),
        Call("POST", "/api/users/grant_admin", accounts.grant_admin, takes=accounts.User, refuses=(404,)),
        Call("POST", "/api/users/revoke_admin", accounts.revoke_admin, takes=accounts.User, refuses=(404, 409)),
        Call("POST", "/api/users/reset_password", accounts.reset_password, takes=accounts.User, refuses=(404,)),
        Call("POST", "/api/users/delete", accounts.delete, refuses=(400,)),
        Call("GET", "/api/users/list", admin.list_users, gives=admin.Users, refuses=(400,)),
        Call("GET", "/api/users/list_detailed", admin.list_users_detailed, gives=admin.DetailedUsers, refuses=(400,)),
        Call("GET", "/api/audit/{owner:str}/", audit.of_user, gives=audit.OldEvents),
        Call("GET", f"/api/audit/{PACKAGE}/", audit.of_package, gives=audit.OldEvents),
        Call("GET", "/api/admin/package_list/{owner:str}/", admin.list_packages, gives=shapes.OfOwner),
        Call("GET", "/api/admin/package_summary", admin.summarise_packages, gives=admin.Summary),
        Call("GET", "/api/v1/audit", audit.find, gives=audit.Events, query=AUDIT),
        Call("GET", "/api/v1/tokens", tokens.list_tokens, gives=shapes.Tokens),
        Call("POST", "/api/v1/tokens", tokens.create_token, takes=tokens.NewToken, gives=Made, refuses=(409,)),
        Call("DELETE", "/api/v1/tokens/{token_id:str}", tokens.revoke_token),
        Call("POST", "/api/log", system.client_log, reads=True, takes=list[dict[str, Any]]),
        Call("GET", "/api/openapi.json", system.openapi, gives=dict[str, Any]),
        Call("GET", "/healthcheck", system.healthcheck, gives=TEXT),
        Call("GET", "/readyz", system.readyz, gives=system.Ready),
        Call("GET", "/metrics", system.show_metrics, gives=TEXT, refuses=(401, 404)),
        Call("GET", "/robots.txt", system.robots, gives=TEXT),
        Call("GET", "/objects/{key:path}", objects.get, gives=BYTES, refuses=(403, 416)),
        Call("PUT", "/objects/{key:path}", objects.put, takes=BYTES, gives=BYTES, refuses=(403, 409, 507)),
    ]


def _handler(call: Call) -> HTTPRouteHandler:
    """GET answers HEAD too. Paths that end with a slash are good without it, the others not with it."""
    return HTTPRouteHandler(
        call.path,
        http_method=[HttpMethod.GET, HttpMethod.HEAD] if call.method == "GET" else HttpMethod(call.method),
        status_code=200,
        opt={
            "slash": call.path.endswith(("/", ":path}")),
            "changes": call.method != "GET" and not call.reads,
            "user_endpoint": call.path.startswith("/api/users/"),
        },
    )(call.function)


def router() -> Router:
    """All calls, with what they may ask for by name: who is calling, and the request's body."""
    return Router(
        "/",
        route_handlers=[_handler(call) for call in calls()],
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
    path, known = calling.address(request), request.route_handler.opt  # nothing for the framework's own OPTIONS
    if "%00" in path:
        raise Invalid("The address holds a NUL character.")
    if path.endswith("/") and not known.get("slash", True):
        raise NotFound("There is nothing at this address.")
    if known.get("user_endpoint"):
        access.check_user_endpoints(request.app.state.settings.enable_user_endpoints)
