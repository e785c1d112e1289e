"""The routes of the web catalog, and its error pages."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litestar import HttpMethod, Request, Response, Router
from litestar.file_system import BaseLocalFileSystem
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router
from litestar.types import PathType
from litestar.types.file_types import FileInfo

from quilt_registry.accounts.rights import Who
from quilt_registry.catalog import session
from quilt_registry.catalog.account import code, password, signin, signup
from quilt_registry.catalog.package import comments, overview
from quilt_registry.catalog.site import help, home
from quilt_registry.catalog.site.refusal import ErrorPage
from quilt_registry.errors import SignInNeeded
from quilt_registry.web import callers

PACKAGE = "/package/{owner:str}/{name:str}"


def router() -> Router:
    """Return all pages. `who` is defined in accounts/rights.py, but on a page, an invalid cookie counts as none."""
    return Router(
        "/",
        route_handlers=[
            _page("GET", "/", home.home, who="caller"),
            _page("GET", PACKAGE, overview.package, who="caller"),
            _page("GET", f"{PACKAGE}/comments", comments.page, who="caller"),
            _page("POST", f"{PACKAGE}/comments", comments.post, who="member"),
            _page("GET", "/code", code.code, who="member"),
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
            _page("GET", "/help/api", help.api, who="visitor"),
            _static_files(),
        ],
        dependencies=callers.DEPENDENCIES,
    )


def _page(method: str, path: str, function: Callable[..., Any], who: Who) -> HTTPRouteHandler:
    """Return the handler of a page. A GET page also handles HEAD."""
    methods = [HttpMethod.GET, HttpMethod.HEAD] if method == "GET" else HttpMethod(method)
    guards = [session.check_request, session.authorize]
    return HTTPRouteHandler(path, http_method=methods, status_code=200, guards=guards, opt={"who": who})(function)


def _static_files() -> Router:
    directory = Path(__file__).parent / "static"
    return create_static_files_router(
        "/static",
        directories=[directory],
        file_system=_StaticFiles(),
        name="static",
        guards=[session.check_request],
    )


class _StaticFiles(BaseLocalFileSystem):
    """The file system, in which names that are impossible for it do not exist."""

    async def info(self, path: PathType, **kwargs: Any) -> FileInfo:
        try:
            return await super().info(path, **kwargs)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR):
                raise FileNotFoundError from error
            raise


def is_page(path: str) -> bool:
    """Return whether a path belongs to the catalog, whose errors are pages."""
    return not path.startswith(("/api/", "/objects/", "/metrics", "/readyz"))


def refusal(request: Request[Any, Any, Any], status: int, message: str) -> Response[Any]:
    """Return an error page, or a redirect to the sign-in page if the page requires a sign-in."""
    if status == SignInNeeded.status:
        return session.redirect_to_sign_in(request)
    return ErrorPage(status, message)
