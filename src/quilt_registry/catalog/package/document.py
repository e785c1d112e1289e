"""READMEs and other Markdown files of a package, with links to its other files."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from markupsafe import Markup

from quilt_registry.cache import Cache
from quilt_registry.catalog import markdown
from quilt_registry.catalog.package.header import Header
from quilt_registry.packages import file_links
from quilt_registry.packages.file_links import Path
from quilt_registry.previews.markdown import ID_PREFIX
from quilt_registry.registry import Registry

_documents: Cache[Markup] = Cache(16_000_000)  # characters


async def render(registry: Registry, header: Header, text: str, folder: Sequence[str] = ()) -> Markup:
    """Return a Markdown text of the shown version as HTML. `folder` is the path of the folder of its file.

    Relative links lead to files of the same version, relative images to pictures of them.
    """
    assert header.view.version is not None
    instance = header.view.version.instance
    key = header.url(), instance.top_hash, tuple(folder), text
    rendered = _documents.get(key)
    if rendered is None:
        draft = await markdown.draft(registry.offload, text)
        wanted = {target: path for target in draft.targets if (path := _path(target, folder)) is not None}
        nodes = await file_links.find(registry.db, instance, set(wanted.values()))
        found = {target: nodes[path] for target, path in wanted.items() if path in nodes}
        rendered = await markdown.finish(
            registry.offload,
            draft,
            pages={target: header.url("files", *node) + _fragment(target) for target, node in found.items()},
            images={target: header.url("files", *node, view="image") for target, node in found.items() if node},
        )
        _documents.put(key, rendered, len(text) + len(rendered))
    return rendered


def _path(target: str, folder: Sequence[str]) -> Path | None:
    """Return the path of file names that a relative URL means; None if it leads out of the package."""
    path = unquote(urlsplit(target).path)
    names = [] if path.startswith("/") else list(folder)
    for name in path.split("/"):
        if name == ".." and not names:
            return None
        if name == "..":
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    return tuple(names)


def _fragment(target: str) -> str:
    _, mark, fragment = target.partition("#")
    return f"#{ID_PREFIX}{fragment.lower()}" if mark else ""
