"""Pictures, drawn anew so that a page shows only pixels: no metadata, no other content, a bounded size."""

from __future__ import annotations

import io
import warnings

from msgspec import Struct
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
MAX_BYTES = 50_000_000  # of the file
MAX_PIXELS = 60_000_000  # about 240 MB in memory
MAX_SIDE = 1600  # of the picture that is shown

Image.MAX_IMAGE_PIXELS = MAX_PIXELS


class Picture(Struct, frozen=True):
    """A picture for a page, as PNG or JPEG, and the width and height of the original."""

    data: bytes
    media_type: str
    width: int
    height: int


class UnreadableError(Exception):
    """The file is no picture that can be shown. The message says why."""


def draw(data: bytes) -> Picture:
    """Return the picture in a file, the first one if it has several. Raise UnreadableError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _draw(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError(f"The picture has more than {MAX_PIXELS // 1_000_000} million pixels.") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UnreadableError("The file is damaged, or no picture of a kind that can be shown.") from error


def _draw(image: Image.Image) -> Picture:
    width, height = image.size
    is_photo = image.format == "JPEG"
    if is_photo:
        image.draft("RGB", (MAX_SIDE * 2, MAX_SIDE * 2))  # which decodes fewer pixels
    turned = ImageOps.exif_transpose(_plain(image))
    if turned.size[0] != image.size[0]:
        width, height = height, width
    turned.thumbnail((MAX_SIDE, MAX_SIDE))
    out = io.BytesIO()
    if is_photo:
        turned.convert("RGB").save(out, "JPEG", quality=85)
    else:
        turned.save(out, "PNG")
    return Picture(out.getvalue(), "image/jpeg" if is_photo else "image/png", width, height)


def _plain(image: Image.Image) -> Image.Image:
    """Return an image in a mode that all browsers show. Measurements are scaled to shades of grey."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode in ("1", "P", "PA"):
        return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode.startswith("I") or image.mode == "F":
        values = image.convert("F")
        low, high = values.getextrema()
        assert isinstance(low, float)
        assert isinstance(high, float)
        scale = 255 / (high - low) if high > low else 0
        return values.point(lambda value: value * scale - low * scale).convert("L")
    return image.convert("RGB")
