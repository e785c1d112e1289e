"""Texts of users as HTML of pages. Nothing else in the catalog marks such text as safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from quilt_registry.offload import Offload
from quilt_registry.previews import markdown
from quilt_registry.previews.markdown import Draft

CHARACTERS_PER_WEIGHT = 3  # rendering three characters takes as long as decoding a manifest entry


async def comments(offload: Offload, texts: Sequence[str]) -> list[Markup]:
    """Return comments as HTML. Those of a whole page take too long for the event loop."""
    rendered = await offload.run(_weight("".join(texts)), markdown.comments, texts)
    return [Markup(html) for html in rendered]  # noqa: S704  sanitized


async def draft(offload: Offload, text: str) -> Draft:
    """Render a README or another Markdown file, except for its links to files."""
    return await offload.run(_weight(text), markdown.draft, text)


async def finish(offload: Offload, draft: Draft, pages: Mapping[str, str], images: Mapping[str, str]) -> Markup:
    """Return a draft as HTML. Both mappings lead from its targets to paths of this site."""
    html = await offload.run(_weight(draft.html) // 10, markdown.finish, draft.html, pages, images)
    return Markup(html)  # noqa: S704  sanitized


def _weight(text: str) -> int:
    return len(text) // CHARACTERS_PER_WEIGHT
