"""The protocol of the released Quilt 2 clients, frozen: every call on one page. README.md in this folder explains them.

`who`: accounts/rights.py.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from quilt_registry.api.openapi import Query, Route
from quilt_registry.api.params import MAX_BIGINT
from quilt_registry.api.quilt2 import (
    accounts,
    activity,
    admin,
    audit,
    client_log,
    comments,
    history,
    objects,
    packages,
    schemas,
    session,
    sharing,
)
from quilt_registry.packages.comments import CommentPage
from quilt_registry.packages.search import SearchResult

SUBPATH = Query("subpath", str, "only the objects below this path of node names")
META_ONLY = Query("meta_only", str, "true: only metadata objects")
WORDS = Query("q", str, "words, all of which must occur; the last may be a beginning")
LIMIT = Query("limit", Annotated[int, Meta(ge=1, le=1000)], "most rows of a page; absent: everything")
AFTER = Query("after", str, "`next` of the page before")
COUNT = Query("count", str, "how many, 10 if it is no number, at most 100")
COMMENTS_LIMIT = Query("limit", Annotated[int, Meta(ge=1, le=100)], "most comments of a page; absent: all of them")
COMMENTS_AFTER = Query("after", Annotated[int, Meta(ge=0, le=MAX_BIGINT)], "`next` of the page before")

PACKAGE = "{owner:str}/{name:str}"
TEXT, BYTES = "text/plain", "application/octet-stream"
PUSH: dict[str, Any] = {
    "body": schemas.PushRequest,
    "returns": (schemas.Pushed, schemas.ToUpload),
    "errors": (404, 409, 507),
}


def routes() -> list[Route]:
    """Return every call."""
    return [
        Route("GET", "/login", session.login_page, who="anybody", status=302),
        Route(
            "POST",
            "/api/login",
            session.login,
            who="visitor",
            body=session.Credentials,
            returns=schemas.Token,
            errors=(429,),
        ),
        Route("POST", "/api/token", session.token, who="visitor", body=session.SECRET, returns=schemas.Exchanged),
        Route("POST", "/api/refresh", session.refresh, who="member", returns=schemas.Token),
        Route("POST", "/api/logout", session.logout, who="member"),
        Route("GET", "/api/me", session.me, who="member", returns=schemas.Me),
        Route("GET", "/api/code", session.code, who="member", returns=schemas.Code),
        Route(
            "POST",
            "/api/register",
            accounts.register,
            who="visitor",
            body=accounts.Registration,
            errors=(409, 429, 501),
        ),
        Route("GET", "/activate/{link:str}", accounts.activate, who="anybody", status=302),
        Route("POST", "/api/reset_password", accounts.ask_reset, who="visitor", body=accounts.Reset, errors=(429,)),
        Route("POST", "/api/change_password", accounts.change_password, who="visitor", body=accounts.NewPassword),
        Route("PUT", f"/api/package/{PACKAGE}/{{top_hash:str}}", packages.push, who="member", **PUSH),
        Route("POST", f"/api/package_update/{PACKAGE}/{{path:path}}", packages.push_part, who="member", **PUSH),
        Route(
            "GET",
            f"/api/package/{PACKAGE}/{{top_hash:str}}",
            packages.install,
            who="caller",
            returns=schemas.Installed,
            query=(SUBPATH, META_ONLY),
            errors=(409,),
        ),
        Route(
            "POST",
            "/api/get_objects",
            packages.get_objects,
            who="caller",
            reads=True,
            body=list[str],
            returns=schemas.ObjectUrls,
        ),
        Route("GET", "/api/package/{owner:str}/", packages.list_owner, who="caller", returns=schemas.OfOwner),
        Route("GET", f"/api/package/{PACKAGE}/", packages.list_hashes, who="caller", returns=schemas.Hashes),
        Route("DELETE", f"/api/package/{PACKAGE}/", packages.delete, who="member"),
        Route(
            "GET",
            f"/api/package_preview/{PACKAGE}/{{top_hash:str}}",
            packages.preview,
            who="caller",
            returns=schemas.Preview,
        ),
        Route("GET", "/api/recent_packages/", activity.recent, who="caller", returns=activity.Recent, query=(COUNT,)),
        Route(
            "GET",
            f"/api/package_timeseries/{PACKAGE}/{{event:str}}",
            activity.series,
            who="caller",
            returns=activity.Series,
        ),
        Route("GET", "/api/search/", packages.search, who="caller", returns=SearchResult, query=(WORDS, LIMIT, AFTER)),
        Route("GET", "/api/profile", sharing.profile, who="member", returns=schemas.Profile),
        Route("GET", f"/api/tag/{PACKAGE}/", history.list_tags, who="caller", returns=schemas.Tags),
        Route("GET", f"/api/tag/{PACKAGE}/{{tag:str}}", history.get_tag, who="caller", returns=schemas.Tagged),
        Route("PUT", f"/api/tag/{PACKAGE}/{{tag:str}}", history.put_tag, who="member", body=history.Pointer),
        Route("DELETE", f"/api/tag/{PACKAGE}/{{tag:str}}", history.delete_tag, who="member"),
        Route("GET", f"/api/version/{PACKAGE}/", history.list_versions, who="caller", returns=schemas.Versions),
        Route(
            "GET",
            f"/api/version/{PACKAGE}/{{version:str}}",
            history.get_version,
            who="caller",
            returns=schemas.Instance,
        ),
        Route(
            "PUT",
            f"/api/version/{PACKAGE}/{{version:str}}",
            history.put_version,
            who="member",
            body=history.Pointer,
            errors=(409,),
        ),
        Route("GET", f"/api/log/{PACKAGE}/", history.log, who="caller", returns=schemas.Log),
        Route(
            "GET",
            f"/api/comments/{PACKAGE}/",
            comments.list_comments,
            who="caller",
            returns=(comments.Comments, CommentPage),
            query=(COMMENTS_LIMIT, COMMENTS_AFTER),
        ),
        Route(
            "POST",
            f"/api/comments/{PACKAGE}/",
            comments.post,
            who="member",
            body=comments.NewComment,
            returns=comments.Posted,
            errors=(429,),
        ),
        Route("DELETE", f"/api/comments/{PACKAGE}/{{comment_id:str}}", comments.delete, who="member"),
        Route("GET", f"/api/access/{PACKAGE}/", sharing.list_access, who="member", returns=schemas.Access),
        Route("GET", f"/api/access/{PACKAGE}/{{user:str}}", sharing.get_access, who="member"),
        Route("PUT", f"/api/access/{PACKAGE}/{{user:str}}", sharing.put_access, who="member", errors=(409, 429)),
        Route("DELETE", f"/api/access/{PACKAGE}/{{user:str}}", sharing.delete_access, who="member"),
        Route("GET", "/api/invite/", sharing.my_invitations, who="member", returns=schemas.Invitations),
        Route("GET", f"/api/invite/{PACKAGE}/", sharing.package_invitations, who="member", returns=schemas.Invitations),
        Route("POST", "/api/users/create", accounts.create, who="admin", body=accounts.NewUser, errors=(409,)),
        Route("POST", "/api/users/disable", accounts.disable, who="admin", body=accounts.User, errors=(404, 409)),
        Route("POST", "/api/users/enable", accounts.enable, who="admin", body=accounts.User, errors=(404,)),
        Route("POST", "/api/users/grant_admin", accounts.grant_admin, who="admin", body=accounts.User, errors=(404,)),
        Route(
            "POST", "/api/users/revoke_admin", accounts.revoke_admin, who="admin", body=accounts.User, errors=(404, 409)
        ),
        Route(
            "POST", "/api/users/reset_password", accounts.reset_password, who="admin", body=accounts.User, errors=(404,)
        ),
        Route("POST", "/api/users/delete", accounts.delete, who="anybody", errors=(400,)),
        Route("GET", "/api/users/list", admin.list_users, who="admin", returns=admin.Users, errors=(400,)),
        Route(
            "GET",
            "/api/users/list_detailed",
            admin.list_users_detailed,
            who="admin",
            returns=admin.DetailedUsers,
            errors=(400,),
        ),
        Route("GET", "/api/audit/{owner:str}/", audit.of_user, who="admin", returns=audit.OldEvents),
        Route("GET", f"/api/audit/{PACKAGE}/", audit.of_package, who="admin", returns=audit.OldEvents),
        Route("GET", "/api/admin/package_list/{owner:str}/", admin.list_packages, who="admin", returns=schemas.OfOwner),
        Route("GET", "/api/admin/package_summary", admin.summarise_packages, who="admin", returns=admin.Summary),
        Route("POST", "/api/log", client_log.client_log, who="caller", reads=True, body=list[dict[str, Any]]),
        Route("GET", "/objects/{key:path}", objects.get, who="anybody", returns=BYTES, errors=(403, 416)),
        Route(
            "PUT", "/objects/{key:path}", objects.put, who="anybody", body=BYTES, returns=BYTES, errors=(403, 409, 507)
        ),
    ]
