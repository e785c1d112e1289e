"""The routes of the released Quilt 2 clients' protocol, which is frozen. README.md in this folder explains them."""

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
from quilt_registry.manifests.pushed import PushRequest
from quilt_registry.packages.comments import CommentPage
from quilt_registry.packages.listing import PackageList
from quilt_registry.packages.paging import MAX_PAGE_SIZE
from quilt_registry.packages.search import SearchResult

SIGN_IN_NEXT = Query("next", str, "The page to open after the sign-in. Without it, the page with a sign-in code.")
SUBPATH = Query("subpath", str, "Only the objects below this path: node names, separated by slashes.")
META_ONLY = Query("meta_only", str, "`true`: only the metadata objects.")
SEARCH_WORDS = Query("q", str, "Words to find, all of them. The last word may be incomplete.")
SEARCH_LIMIT = Query("limit", Annotated[int, Meta(ge=1, le=1000)], "The page size. Without it, all results.")
SEARCH_AFTER = Query("after", str, "`next` of the previous page.")
RECENT_COUNT = Query("count", str, "The number of packages, at most 100. Without a number, 10.")
PACKAGES_LIMIT = Query(
    "limit", Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE)], "The page size. Without it, all packages."
)
PACKAGES_AFTER = Query("after", str, "`next` of the previous page.")
COMMENTS_LIMIT = Query("limit", Annotated[int, Meta(ge=1, le=100)], "The page size. Without it, all comments.")
COMMENTS_AFTER = Query("after", Annotated[int, Meta(ge=0, le=MAX_BIGINT)], "`next` of the previous page.")

PACKAGE = "{owner:str}/{name:str}"
INSTANCE = f"{PACKAGE}/{{top_hash:str}}"
BYTES = "application/octet-stream"
PUSH: dict[str, Any] = {
    "body": PushRequest,
    "returns": (schemas.PushResult, schemas.UploadUrls),
    "errors": (404, 409, 507),
}

ROUTES = [
    Route("GET", "/login", session.redirect_to_catalog, who="anybody", status=302, query=(SIGN_IN_NEXT,)),
    Route(
        "POST",
        "/api/login",
        session.login,
        who="visitor",
        body=session.Credentials,
        returns=schemas.SessionToken,
        errors=(429,),
    ),
    Route("POST", "/api/token", session.exchange, who="visitor", body=session.CODE_FORM, returns=schemas.TokenPair),
    Route("POST", "/api/refresh", session.refresh, who="member", returns=schemas.SessionToken),
    Route("POST", "/api/logout", session.logout, who="member"),
    Route("GET", "/api/me", session.get_me, who="member", returns=schemas.CurrentUser),
    Route("GET", "/api/code", session.get_code, who="member", returns=schemas.SignInCode),
    Route(
        "POST",
        "/api/register",
        accounts.register,
        who="visitor",
        body=accounts.SignUpRequest,
        errors=(409, 429, 501),
    ),
    Route("GET", "/activate/{link:str}", accounts.activate, who="anybody", status=302),
    Route(
        "POST",
        "/api/reset_password",
        accounts.request_password_reset,
        who="visitor",
        body=accounts.PasswordResetRequest,
        errors=(429,),
    ),
    Route(
        "POST",
        "/api/change_password",
        accounts.change_password,
        who="visitor",
        body=accounts.PasswordChangeRequest,
    ),
    Route("PUT", f"/api/package/{INSTANCE}", packages.push, who="member", **PUSH),
    Route("POST", f"/api/package_update/{PACKAGE}/{{path:path}}", packages.push_part, who="member", **PUSH),
    Route(
        "GET",
        f"/api/package/{INSTANCE}",
        packages.install,
        who="caller",
        returns=schemas.InstallResult,
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
    Route(
        "GET",
        "/api/package/{owner:str}/",
        packages.list_packages,
        who="caller",
        returns=PackageList,
        query=(PACKAGES_LIMIT, PACKAGES_AFTER),
    ),
    Route("GET", f"/api/package/{PACKAGE}/", packages.list_hashes, who="caller", returns=schemas.HashList),
    Route("DELETE", f"/api/package/{PACKAGE}/", packages.delete_package, who="member"),
    Route("GET", f"/api/package_preview/{INSTANCE}", packages.preview, who="caller", returns=schemas.Preview),
    Route(
        "GET",
        "/api/recent_packages/",
        activity.list_recent,
        who="caller",
        returns=activity.RecentPackageList,
        query=(RECENT_COUNT,),
    ),
    Route(
        "GET",
        f"/api/package_timeseries/{PACKAGE}/{{event:str}}",
        activity.get_time_series,
        who="caller",
        returns=activity.WeeklyCounts,
    ),
    Route(
        "GET",
        "/api/search/",
        packages.search,
        who="caller",
        returns=SearchResult,
        query=(SEARCH_WORDS, SEARCH_LIMIT, SEARCH_AFTER),
    ),
    Route(
        "GET",
        "/api/profile",
        sharing.get_profile,
        who="member",
        returns=schemas.ProfileInfo,
        query=(PACKAGES_LIMIT, PACKAGES_AFTER),
    ),
    Route("GET", f"/api/tag/{PACKAGE}/", history.list_tags, who="caller", returns=schemas.TagList),
    Route("GET", f"/api/tag/{PACKAGE}/{{tag:str}}", history.get_tag, who="caller", returns=schemas.TaggedInstance),
    Route("PUT", f"/api/tag/{PACKAGE}/{{tag:str}}", history.put_tag, who="member", body=history.InstanceReference),
    Route("DELETE", f"/api/tag/{PACKAGE}/{{tag:str}}", history.delete_tag, who="member"),
    Route("GET", f"/api/version/{PACKAGE}/", history.list_versions, who="caller", returns=schemas.VersionList),
    Route(
        "GET",
        f"/api/version/{PACKAGE}/{{version:str}}",
        history.get_version,
        who="caller",
        returns=schemas.InstanceInfo,
    ),
    Route(
        "PUT",
        f"/api/version/{PACKAGE}/{{version:str}}",
        history.put_version,
        who="member",
        body=history.InstanceReference,
        errors=(409,),
    ),
    Route("GET", f"/api/log/{PACKAGE}/", history.get_log, who="caller", returns=schemas.PackageLog),
    Route(
        "GET",
        f"/api/comments/{PACKAGE}/",
        comments.list_comments,
        who="caller",
        returns=(comments.CommentList, CommentPage),
        query=(COMMENTS_LIMIT, COMMENTS_AFTER),
    ),
    Route(
        "POST",
        f"/api/comments/{PACKAGE}/",
        comments.create_comment,
        who="member",
        body=comments.CommentRequest,
        returns=comments.NewComment,
        errors=(429,),
    ),
    Route("DELETE", f"/api/comments/{PACKAGE}/{{comment_id:str}}", comments.delete_comment, who="member"),
    Route("GET", f"/api/access/{PACKAGE}/", sharing.list_access, who="member", returns=schemas.AccessList),
    Route("GET", f"/api/access/{PACKAGE}/{{user:str}}", sharing.get_access, who="member"),
    Route("PUT", f"/api/access/{PACKAGE}/{{user:str}}", sharing.grant_access, who="member", errors=(409, 429)),
    Route("DELETE", f"/api/access/{PACKAGE}/{{user:str}}", sharing.revoke_access, who="member"),
    Route("GET", "/api/invite/", sharing.list_invitations, who="member", returns=schemas.InvitationList),
    Route(
        "GET",
        f"/api/invite/{PACKAGE}/",
        sharing.list_package_invitations,
        who="member",
        returns=schemas.InvitationList,
    ),
    Route(
        "POST",
        "/api/users/create",
        accounts.create_user,
        who="admin",
        body=accounts.NewUserRequest,
        errors=(409,),
    ),
    Route(
        "POST",
        "/api/users/disable",
        accounts.disable_user,
        who="admin",
        body=accounts.UserRequest,
        errors=(404, 409),
    ),
    Route("POST", "/api/users/enable", accounts.enable_user, who="admin", body=accounts.UserRequest, errors=(404,)),
    Route(
        "POST",
        "/api/users/grant_admin",
        accounts.grant_admin,
        who="admin",
        body=accounts.UserRequest,
        errors=(404,),
    ),
    Route(
        "POST",
        "/api/users/revoke_admin",
        accounts.revoke_admin,
        who="admin",
        body=accounts.UserRequest,
        errors=(404, 409),
    ),
    Route(
        "POST",
        "/api/users/reset_password",
        accounts.reset_password,
        who="admin",
        body=accounts.UserRequest,
        errors=(404,),
    ),
    Route("POST", "/api/users/delete", accounts.delete_user, who="anybody", errors=(400,)),
    Route("GET", "/api/users/list", admin.list_users, who="admin", returns=admin.UserList, errors=(400,)),
    Route(
        "GET",
        "/api/users/list_detailed",
        admin.list_users_detailed,
        who="admin",
        returns=admin.UserActivityReport,
        errors=(400,),
    ),
    Route("GET", "/api/audit/{owner:str}/", audit.list_user_events, who="admin", returns=audit.PackageEventList),
    Route("GET", f"/api/audit/{PACKAGE}/", audit.list_package_events, who="admin", returns=audit.PackageEventList),
    Route(
        "GET",
        "/api/admin/package_list/{owner:str}/",
        admin.list_packages,
        who="admin",
        returns=PackageList,
        query=(PACKAGES_LIMIT, PACKAGES_AFTER),
    ),
    Route(
        "GET",
        "/api/admin/package_summary",
        admin.summarize_packages,
        who="admin",
        returns=admin.PackageActivityReport,
    ),
    Route(
        "POST", "/api/log", client_log.accept_build_reports, who="caller", reads=True, body=list[client_log.BuildReport]
    ),
    Route("GET", "/objects/{key:path}", objects.get_object, who="anybody", returns=BYTES, errors=(403, 416)),
    Route(
        "PUT",
        "/objects/{key:path}",
        objects.put_object,
        who="anybody",
        body=BYTES,
        returns=BYTES,
        errors=(403, 507),
    ),
]
