"""Previews of files. They are computed in helper processes, and kept by digest, because contents never change."""

from __future__ import annotations

from msgspec import Struct

from quilt_registry.cache import Cache
from quilt_registry.errors import TooLarge, Unavailable
from quilt_registry.offload import MAX_INLINE_WEIGHT
from quilt_registry.packages import files
from quilt_registry.packages.access import Package
from quilt_registry.packages.files import ObjectPart
from quilt_registry.previews import hexdump, images, kinds, text
from quilt_registry.previews.hexdump import HexLine
from quilt_registry.previews.images import Picture, UnreadableError
from quilt_registry.previews.text import TextPage
from quilt_registry.rate_limits import PREVIEW
from quilt_registry.services import Services
from quilt_registry.turns import current_person

IN_HELPER = MAX_INLINE_WEIGHT + 1  # the weight of a light job that must not run in this process

_pictures: Cache[Picture] = Cache(64_000_000)
_texts: Cache[TextPage] = Cache(32_000_000)


class Preview(Struct, frozen=True):
    """What a page shows of a file: one of a text, a picture, or its first bytes. `kind` may be known by the contents.

    `problem` says why there is none of them. `is_cut` is True if only the beginning of a text is shown.
    """

    kind: str
    text: TextPage | None = None
    picture: Picture | None = None
    lines: list[HexLine] | None = None
    problem: str = ""
    is_cut: bool = False


async def preview(services: Services, package: Package, part: ObjectPart, name: str, kind: str, page: int) -> Preview:
    """Return the preview of an object, or what is in its way. `name` is that of the source file.

    Raise TooMany.
    """
    try:
        return await _preview(services, package, part, name, kind, page)
    except (UnreadableError, Unavailable, TooLarge) as error:
        return Preview(kind, problem=str(error))


async def _preview(services: Services, package: Package, part: ObjectPart, name: str, kind: str, page: int) -> Preview:
    if kind == "image":
        return Preview(kind, picture=await draw(services, package, part))
    if kind not in (*kinds.TEXTS, "file"):
        return Preview(kind, lines=hexdump.render(await files.read_part(services, package, part, hexdump.MAX_BYTES)))
    key = part.digest, name, page
    found = _texts.get(key)
    if found is None:
        data = await files.read_part(services, package, part, text.MAX_BYTES)
        if kind == "file":
            kind = kinds.by_content(data)
        if kind == "image":
            return Preview(kind, picture=await draw(services, package, part))
        await services.limits.hit(PREVIEW, current_person.get())
        found = await services.offload.run(IN_HELPER, text.render, data, name, page) if kind in kinds.TEXTS else None
        if found is None:
            return Preview("file" if kind in kinds.TEXTS else kind, lines=hexdump.render(data))
        _texts.put(key, found, sum(map(len, found.lines)))
    return Preview("text" if kind == "file" else kind, text=found, is_cut=part.size > text.MAX_BYTES)


async def draw(services: Services, package: Package, part: ObjectPart) -> Picture:
    """Return an object as a picture that is safe to show. Raise UnreadableError, TooMany, TooLarge, Unavailable."""
    if part.size > images.MAX_BYTES:
        raise UnreadableError(f"Pictures of more than {images.MAX_BYTES // 1_000_000} MB are not shown.")
    picture = _pictures.get(part.digest)
    if picture is None:
        await services.limits.hit(PREVIEW, current_person.get())
        data = await files.read_part(services, package, part, images.MAX_BYTES)
        picture = await services.offload.run(IN_HELPER, images.draw, data)
        _pictures.put(part.digest, picture, len(picture.data))
    return picture


async def read_text(services: Services, package: Package, part: ObjectPart, limit: int) -> str | None:
    """Return the text of an object of at most `limit` bytes, None for binary data. Raise Unavailable."""
    decoded = text.decode(await files.read_part(services, package, part, limit))
    return decoded[0] if decoded else None
