"""Rendering of templates to HTML responses."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response

from quilt_registry import __version__

HEADERS = {
    # Everything is loaded from this site; there are no scripts, and no other site may frame a page.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["release"] = __version__


def render(request: Request[Any, Any, Any], template: str, status: int = 200, **values: Any) -> Response[str]:
    """Return a page. The database is not used, so that an error page can report that it does not respond."""
    text = _templates.get_template(template).render(
        settings=request.app.state.registry.settings,
        path=request.scope["path"],
        status=status,
        **{"account": None, **values},
    )
    return Response(text, status_code=status, media_type="text/html", headers=HEADERS)


def _size(size: int) -> str:
    """Format a number of bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:,.1f} TB"


def _time(time: datetime) -> str:
    return time.strftime("%-d %B %Y, %H:%M UTC")


_templates.filters |= {"size": _size, "time": _time}
