"""READMEs and other Markdown files of a package."""

from __future__ import annotations

from markupsafe import Markup

from quilt_registry.catalog import markdown
from quilt_registry.registry import Registry


async def render(registry: Registry, text: str) -> Markup:
    """Return a Markdown text as HTML, without links to files of its package."""
    draft = await markdown.draft(registry.offload, text)
    return await markdown.finish(registry.offload, draft, pages={}, images={})
