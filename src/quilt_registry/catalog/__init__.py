"""The routes of the web catalog, and its error pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import HttpMethod, Request, Response, Router
from litestar.config.compression import CompressionConfig
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect

from quilt_registry.accounts.rights import Who
from quilt_registry.catalog import forms, session, static_files
from quilt_registry.catalog.account import account, code, password, profile, signin, signup, tokens
from quilt_registry.catalog.admin import (
    audit as admin_audit,
    overview as admin_overview,
    packages as admin_packages,
    system,
    users as admin_users,
)
from quilt_registry.catalog.package import (
    activity,
    comments,
    download,
    files as package_files,
    overview,
    revisions,
    settings,
    sharing,
)
from quilt_registry.catalog.session import Moved
from quilt_registry.catalog.site import components, files, help, home, search, start, theme, user
from quilt_registry.catalog.site.refusal import ErrorPage, PageRefusal
from quilt_registry.catalog.templates import render
from quilt_registry.errors import SignInNeeded
from quilt_registry.web import callers

NO_PAGES = ("/api/", "/objects/", "/metrics", "/readyz")
# Forms have masked tokens, so that the length of a compressed page reveals nothing.
COMPRESSION = CompressionConfig(
    backend="gzip",
    gzip_compress_level=5,
    minimum_size=1000,
    exclude=[f"^{each}" for each in (*NO_PAGES, "/static/", "/package/[^/]+/[^/]+/download/")],
)
ADMIN = "/profile/admin"
PACKAGE = "/package/{owner:str}/{name:str}"


def router() -> Router:
    """Return all pages. `who` is defined in accounts/rights.py, but on a page, an invalid cookie counts as none."""
    return Router(
        "/",
        route_handlers=[
            _page("GET", "/", home.home, who="caller"),
            _page("GET", "/search", search.search, who="caller"),
            _page("GET", "/user/{owner:str}", user.user, who="caller"),
            _page("GET", "/package/{owner:str}", user.user, who="caller"),
            _page("GET", PACKAGE, overview.overview, who="caller"),
            _page("GET", f"{PACKAGE}/files", package_files.page, who="caller"),
            _page("GET", f"{PACKAGE}/files/{{path:path}}", package_files.page, who="caller"),
            _page("GET", f"{PACKAGE}/download/{{path:path}}", download.download, who="caller"),
            _page("GET", f"{PACKAGE}/revisions", revisions.page, who="caller"),
            _page("POST", f"{PACKAGE}/revisions", revisions.add_name, who="member"),
            _page("GET", f"{PACKAGE}/tags/{{tag:str}}/remove", revisions.confirm_remove_tag, who="member"),
            _page("POST", f"{PACKAGE}/tags/{{tag:str}}/remove", revisions.remove_tag, who="member"),
            _page("GET", f"{PACKAGE}/activity", activity.page, who="caller"),
            _page("GET", f"{PACKAGE}/comments", comments.page, who="caller"),
            _page("POST", f"{PACKAGE}/comments", comments.post, who="member"),
            _page("GET", f"{PACKAGE}/comments/{{key:str}}/delete", comments.confirm_delete, who="member"),
            _page("POST", f"{PACKAGE}/comments/{{key:str}}/delete", comments.delete, who="member"),
            _page("GET", f"{PACKAGE}/sharing", sharing.page, who="member"),
            _page("POST", f"{PACKAGE}/sharing", sharing.add, who="member"),
            _page("GET", f"{PACKAGE}/sharing/suggestions", sharing.suggest, who="member"),
            _page("GET", f"{PACKAGE}/sharing/{{grantee:str}}/add", sharing.confirm_add, who="member"),
            _page("POST", f"{PACKAGE}/sharing/{{grantee:str}}/add", sharing.add_all, who="member"),
            _page("GET", f"{PACKAGE}/sharing/{{grantee:str}}/remove", sharing.confirm_remove, who="member"),
            _page("POST", f"{PACKAGE}/sharing/{{grantee:str}}/remove", sharing.remove, who="member"),
            _page("POST", f"{PACKAGE}/sharing/{{grantee:str}}/resend", sharing.resend, who="member"),
            _page("GET", f"{PACKAGE}/settings", settings.page, who="member"),
            _page("POST", f"{PACKAGE}/settings", settings.change, who="member"),
            _page("GET", "/code", code.code, who="member"),
            _page("POST", "/code", code.new_code, who="member"),
            _page("GET", "/profile", profile.profile, who="member"),
            _page("GET", "/profile/tokens", tokens.page, who="member"),
            _page("POST", "/profile/tokens", tokens.create, who="member"),
            _page("GET", "/profile/tokens/revoke-others", tokens.confirm_revocation_of_others, who="member"),
            _page("POST", "/profile/tokens/revoke-others", tokens.revoke_others, who="member"),
            _page("POST", "/profile/tokens/sign-out-browsers", tokens.sign_out_browsers, who="member"),
            _page("GET", "/profile/tokens/{token_id:str}/revoke", tokens.confirm_revocation, who="member"),
            _page("POST", "/profile/tokens/{token_id:str}/revoke", tokens.revoke, who="member"),
            _page("GET", "/profile/account", account.page, who="member"),
            _page("POST", "/profile/account", account.change_password, who="member"),
            _page("GET", ADMIN, admin_overview.page, who="admin"),
            _page("GET", f"{ADMIN}/users", admin_users.page, who="admin"),
            _page("POST", f"{ADMIN}/users", admin_users.create, who="admin"),
            _page("GET", f"{ADMIN}/users/{{name:str}}/{{act:str}}", admin_users.confirm, who="admin"),
            _page("POST", f"{ADMIN}/users/{{name:str}}/{{act:str}}", admin_users.perform, who="admin"),
            _page("GET", f"{ADMIN}/packages", admin_packages.page, who="admin"),
            _page("GET", f"{ADMIN}/audit", admin_audit.page, who="admin"),
            _page("GET", f"{ADMIN}/audit/export", admin_audit.export, who="admin"),
            _page("GET", f"{ADMIN}/system", system.page, who="admin"),
            _page("GET", f"{ADMIN}/sign-out", system.confirm_sign_out, who="admin"),
            _page("POST", f"{ADMIN}/sign-out", system.sign_out, who="admin"),
            _page("POST", "/preferences", theme.choose_theme, who="visitor"),
            _page("GET", "/signin", signin.sign_in_form, who="visitor"),
            _page("POST", "/signin", signin.sign_in, who="anybody"),
            _page("GET", "/signout", signin.sign_out_form, who="visitor"),
            _page("POST", "/signout", signin.sign_out, who="visitor"),
            _page("GET", "/signup", signup.sign_up_form, who="visitor"),
            _page("POST", "/signup", signup.sign_up, who="anybody"),
            _page("GET", "/activation_error", signup.activation_error, who="visitor"),
            _page("GET", "/reset_password", password.request_form, who="anybody"),
            _page("POST", "/reset_password", password.request_reset, who="anybody"),
            _page("GET", "/reset_password/{link:str}", password.choose_form, who="anybody"),
            _page("POST", "/reset_password/{link:str}", password.choose, who="anybody"),
            _page("GET", "/help/start", start.guide, who="visitor"),
            _page("GET", "/help/api", help.api, who="visitor"),
            _page("GET", "/preferences/components", components.components, who="member"),
            _page("GET", "/logo", files.logo, who="anybody"),
            _page("GET", "/sw.js", files.worker, who="anybody"),
            _page("GET", "/static/{path:path}", static_files.serve, who="anybody"),
        ],
        dependencies=callers.DEPENDENCIES,
    )


def _page(method: str, path: str, function: Callable[..., Any], who: Who) -> HTTPRouteHandler:
    """Return the handler of a page. A GET page also handles HEAD."""
    methods = [HttpMethod.GET, HttpMethod.HEAD] if method == "GET" else HttpMethod(method)
    guards = [session.check_request, session.authorize, forms.check_form]
    return HTTPRouteHandler(path, http_method=methods, status_code=200, guards=guards, opt={"who": who})(function)


def is_page(path: str) -> bool:
    """Return whether a path belongs to the catalog, whose errors are pages."""
    return not f"{path}/".startswith(NO_PAGES)


def refusal(
    request: Request[Any, Any, Any], error: Exception, status: int, message: str, headers: dict[str, str] | None
) -> Response[Any]:
    """Return an error page, or a redirect to the sign-in page if the page requires a sign-in."""
    if isinstance(error, SignInNeeded):
        return session.redirect_to_sign_in(request)
    if isinstance(error, Moved):
        return Redirect(error.path, status_code=308)
    if isinstance(error, PageRefusal):
        return render(request, error.template, error.status, **error.values)
    return ErrorPage(status, message, headers)
