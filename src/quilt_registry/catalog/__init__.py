"""The pages that people read: what a client's user must see until the whole catalog is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from litestar import HttpMethod, Request, Response, Router
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router

from quilt_registry.catalog import account, browse, commenting, help, joining, reading
from quilt_registry.catalog.rendering import render
from quilt_registry.errors import SignInNeeded


def _page(methods: str, path: str, function: Callable[..., Any]) -> HTTPRouteHandler:
    names = methods.replace("GET", "GET HEAD").split()
    return HTTPRouteHandler(path, http_method=[HttpMethod(name) for name in names], status_code=200)(function)


def router() -> Router:
    """All pages."""
    return Router(
        "/",
        route_handlers=[
            _page("GET", "/", browse.home),
            _page("GET", "/package/{owner:str}/{name:str}", browse.package),
            _page("GET", "/package/{owner:str}/{name:str}/comments", commenting.page),
            _page("POST", "/package/{owner:str}/{name:str}/comments", commenting.post),
            _page("GET", "/code", account.code),
            _page("GET", "/signin", account.sign_in_form),
            _page("POST", "/signin", account.sign_in),
            _page("GET", "/signout", account.sign_out_form),
            _page("POST", "/signout", account.sign_out),
            _page("GET", "/signup", joining.sign_up_form),
            _page("POST", "/signup", joining.sign_up),
            _page("GET", "/activation_error", joining.activation_error),
            _page("GET", "/reset_password", joining.ask_form),
            _page("POST", "/reset_password", joining.ask),
            _page("GET", "/reset_password/{link:str}", joining.choose_form),
            _page("POST", "/reset_password/{link:str}", joining.choose),
            _page("GET", "/help/api", help.api),
            create_static_files_router("/static", directories=[Path(__file__).parent / "static"], name="static"),
        ],
        before_request=reading.check,
        dependencies={
            "session": Provide(reading.session),
            "account": Provide(reading.account),
            "reader": Provide(reading.reader),
        },
    )


def is_page(path: str) -> bool:
    """Whether an address belongs to the pages, so that a refusal there is a page too."""
    return not path.startswith(("/api/", "/objects/", "/metrics", "/readyz"))


def refusal(request: Request[Any, Any, Any], status: int, message: str) -> Response[Any]:
    """How a page says no; whoever only has to sign in is sent to do that."""
    if status == SignInNeeded.status and request.method in ("GET", "HEAD"):
        return reading.to_sign_in(request)
    return render(request, "refusal.html", status=status, message=message)
