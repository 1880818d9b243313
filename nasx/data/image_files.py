"""Read an image file of any format that `decoding` supports, with errors that name the file."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from nasx.data.dataset import IMAGE_SIZES
from nasx.data.decoding import DICOM_SUFFIXES, RESAMPLING, DecodingError, Interpolation, decode, formats
from nasx.errors import DataError

ImageSize = Annotated[int, Field(ge=IMAGE_SIZES[0], le=IMAGE_SIZES[1])]  # pixels per side
ValueRange = tuple[float, float]  # pixel values that become 0 and 255


class DamagedFileError(DataError):
    """Raised when a file cannot be read as an image."""


def is_image_file(path: Path) -> bool:
    """Return whether the suffix is of an image format that can be read, and the file is not hidden."""
    suffix = path.suffix.lower()
    is_known = (suffix in DICOM_SUFFIXES and _has_pydicom()) or Image.registered_extensions().get(suffix) in formats()
    return is_known and not path.name.startswith(".")


@cache
def _has_pydicom() -> bool:
    return find_spec("pydicom") is not None


def interpolation_of(setting: Any) -> Interpolation:
    """Return the interpolation that a dataset's setting of that name means; bicubic for None and for other values.

    >>> interpolation_of("lanczos"), interpolation_of(None)
    ('lanczos', 'bicubic')
    """
    return setting if isinstance(setting, str) and setting in RESAMPLING else "bicubic"  # type: ignore[return-value]


def read_image(
    path: Path,
    *,
    size: int | tuple[int, int],
    channels: int,
    value_range: ValueRange | None = None,
    interpolation: Interpolation = "bicubic",
) -> NDArray[np.uint8]:
    """Return an image as an array, uint8 (channels, height, width); see `decoding.decode`.

    Args:
        path: of the file.
        size: (height, width) in pixels, or one number for both.
        channels: 1 (gray) or 3 (red, green, blue).
        value_range: pixel values that become 0 and 255, for files with more than 8 bits.
        interpolation: with which the image is resized.

    Raises:
        DamagedFileError: if the file cannot be read as an image.
    """
    return decode_image(
        path, str(path), size=size, channels=channels, value_range=value_range, interpolation=interpolation
    )


def decode_image(
    file: Path | BinaryIO,
    name: str,
    *,
    size: int | tuple[int, int],
    channels: int,
    value_range: ValueRange | None = None,
    interpolation: Interpolation = "bicubic",
) -> NDArray[np.uint8]:
    """Return an image from an open file or from memory, as `read_image` does.

    Args:
        file: path, open file or buffer.
        name: of the image in messages.
        size: (height, width) in pixels, or one number for both.
        channels: 1 (gray) or 3 (red, green, blue).
        value_range: pixel values that become 0 and 255, for files with more than 8 bits.
        interpolation: with which the image is resized.
    """
    try:
        return decode(file, size=size, channels=channels, value_range=value_range, interpolation=interpolation)
    except DecodingError as error:
        raise DamagedFileError(f"{name} cannot be read as an image ({error}). {error.advice}") from error
