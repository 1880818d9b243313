"""Read an image file of any format that Pillow decodes, as an array of a given size."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from nasx.data.dataset import IMAGE_SIZES
from nasx.errors import DataError

ImageSize = Annotated[int, Field(ge=IMAGE_SIZES[0], le=IMAGE_SIZES[1])]  # pixels per side
# Exceptions of Pillow's decoders on damaged files
_DECODING_ERRORS = (
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
# Excluded: EPS, which is a program that Pillow passes to Ghostscript, and formats without a decoder
_EXCLUDED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - _EXCLUDED))


def is_image_file(path: Path) -> bool:
    """Return whether the suffix is of an image format that Pillow reads, and the file is not hidden."""
    return Image.registered_extensions().get(path.suffix.lower()) in _formats() and not path.name.startswith(".")


def read_image(path: Path, *, size: int | tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return an image as an array, uint8 (channels, height, width).

    The image is rotated as its EXIF orientation says, cropped to its central part of the target shape, and resized.
    Transparent pixels become white. An animation is read as its first frame.

    Args:
        path: of the file.
        size: (height, width) in pixels, or one number for both.
        channels: 1 (gray) or 3 (red, green, blue).

    Raises:
        DataError: if the file cannot be read as an image.
    """
    return decode_image(path, str(path), size=size, channels=channels)


def decode_image(file: Path | BinaryIO, name: str, *, size: int | tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return an image from an open file or from memory, as `read_image` does.

    Args:
        file: path, open file or buffer.
        name: of the image in messages.
        size: (height, width) in pixels, or one number for both.
        channels: 1 (gray) or 3 (red, green, blue).
    """
    mode = "RGB" if channels == 3 else "L"
    height, width = (size, size) if isinstance(size, int) else size
    try:
        with _strict_warnings(), Image.open(file, formats=_formats()) as opened:
            # JPEGs of at least twice the size are decoded at a reduced scale, which is cheaper
            opened.draft(mode, (2 * width, 2 * height))
            upright = _on_white(_to_eight_bits(ImageOps.exif_transpose(opened))).convert(mode)
            fitted = ImageOps.fit(upright, (width, height), method=Image.Resampling.BICUBIC)
    except _DECODING_ERRORS as error:
        reason = str(error).replace(name, "").strip() or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "unknown format"
        problem = f"{name} cannot be read as an image ({' '.join(reason.split())})."
        raise DataError(f"{problem} Replace it by an intact copy, or remove it.") from error
    pixels: NDArray[np.uint8] = np.asarray(fitted, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _strict_warnings() -> Iterator[None]:
    """Raise an error for decompression bombs, and ignore the other warnings of Pillow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit values to 8 bits; Pillow would clip them."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65_535) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image on a white background if it is transparent."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
