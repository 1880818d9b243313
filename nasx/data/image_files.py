"""One picture file, of whatever format Pillow reads, as an array of the size that a network takes."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nasx.data.dataset import IMAGE_SIZES
from nasx.errors import DataError, SettingError

# What Pillow's decoders raise on damaged files
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Not read: EPS, which Pillow hands to Ghostscript (it is a program), and what it only recognises without a decoder
_EXCLUDED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - _EXCLUDED))


def is_image_file(path: Path) -> bool:
    """Whether the name says that this is a picture which Pillow reads. Hidden files are none."""
    return Image.registered_extensions().get(path.suffix.lower()) in _formats() and not path.name.startswith(".")


def read_image(path: Path, *, size: int | tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """The picture as (channels, height, width), 0 to 255, of 1 (grey) or 3 channels (red, green, blue).

    `size`: height and width, or one number for both. The picture is turned upright as its camera noted, cut to the
    middle part of that shape, and resized. What is transparent becomes white. Of an animation the first picture counts.
    Raises DataError where it cannot be read.
    """
    return decode_image(path, str(path), size=size, channels=channels)


def decode_image(file: Path | BinaryIO, name: str, *, size: int | tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """The same of a picture that is open, or in memory; `name` is what errors call it."""
    mode = "RGB" if channels == 3 else "L"
    height, width = (size, size) if isinstance(size, int) else size
    try:
        with _careful(), Image.open(file, formats=_formats()) as opened:
            # JPEGs of twice the size or more are decoded at a fraction of the cost
            opened.draft(mode, (2 * width, 2 * height))
            picture = _flat(_eight_bits(ImageOps.exif_transpose(opened))).convert(mode)
            fitted = ImageOps.fit(picture, (width, height), method=Image.Resampling.BICUBIC)
    except _DAMAGE as error:
        reason = str(error).replace(name, "").strip() or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it is of no format that is known"
        raise DataError(
            f"{name} cannot be read as a picture ({' '.join(reason.split())}). Replace it by a sound copy or remove it."
        ) from error
    pixels: NDArray[np.uint8] = np.asarray(fitted, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _careful() -> Iterator[None]:
    """Refuses small files that unfold to hundreds of millions of pixels; Pillow's other remarks are not for users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow clips 16 bits to 8 when it converts: they are scaled instead."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).clip(0, 65_535) // 257).astype(np.uint8))


def _flat(picture: Image.Image) -> Image.Image:
    """The picture on white, where it is transparent."""
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def check_picture_settings(image_size: int, test_fraction: float, seed: int) -> None:
    """Raise SettingError where pictures cannot be resized, or their test part cut, so."""
    low, high = IMAGE_SIZES
    if not low <= image_size <= high:
        raise SettingError("image_size", f"must be {low} to {high} pixels, got {image_size}")
    if not 0 < test_fraction < 1:
        raise SettingError("test_fraction", f"must lie between 0 and 1, got {test_fraction}")
    if seed < 0:
        raise SettingError("seed", f"must be at least 0, got {seed}")
