"""Pictures are drawn anew: bounded, without metadata, in a format that browsers show."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from quilt_registry.previews import images
from quilt_registry.previews.images import Picture, UnreadableError


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opened(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.data))


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG"])
def test_common_formats_are_shown(format: str) -> None:
    picture = images.draw(encoded(Image.new("RGB", (30, 20), "red"), format))
    assert (picture.width, picture.height) == opened(picture).size == (30, 20)
    assert picture.media_type == ("image/jpeg" if format == "JPEG" else "image/png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "F"])
def test_all_modes_are_shown(mode: str) -> None:
    picture = images.draw(encoded(Image.new(mode, (4, 4)), "TIFF"))
    assert opened(picture).mode in ("L", "LA", "RGB", "RGBA")


def test_measurements_become_shades_of_grey() -> None:
    image = Image.new("F", (2, 1))
    image.putpixel((0, 0), -5.0)
    image.putpixel((1, 0), 1000.0)
    drawn = opened(images.draw(encoded(image, "TIFF")))
    assert [drawn.getpixel((x, 0)) for x in (0, 1)] == [0, 255]


def test_large_pictures_are_scaled() -> None:
    picture = images.draw(encoded(Image.new("RGB", (5000, 100)), "PNG"))
    assert (picture.width, picture.height) == (5000, 100)
    assert opened(picture).size == (1600, 32)


def test_metadata_is_dropped_and_turns_are_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010F] = "A camera at home"
    picture = images.draw(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif))
    assert (picture.width, picture.height) == opened(picture).size == (20, 40)
    assert b"camera" not in picture.data


def test_huge_pictures_are_refused() -> None:
    with pytest.raises(UnreadableError, match="60 million pixels"):
        images.draw(encoded(Image.new("1", (9000, 9000)), "PNG"))


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"\x89PNG\r\n\x1a\nrest", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>"]
)
def test_other_files_are_no_pictures(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        images.draw(data)


def test_a_picture_that_is_cut_is_refused() -> None:
    with pytest.raises(UnreadableError):
        images.draw(encoded(Image.effect_noise((200, 200), 50), "PNG")[:5000])
