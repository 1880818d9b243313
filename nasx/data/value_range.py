"""Range of pixel values of a dataset: which values of files with more than 8 bits become black and white."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, TypeAdapter

from nasx.data.decoding import FULL_RANGE, DecodingError, declared_range, is_truncated, is_wide, opened
from nasx.data.image_files import interpolation_of, read_image
from nasx.errors import DataError, NasxError
from nasx.files import write_atomically

MIN_SHARE: Final = 0.25  # of the range of 16 bits: images that use less of it hold fewer bits
# Suffixes of formats with more than 8 bits per value; other files need not be opened
_WIDE: Final = (
    *(".png", ".apng", ".tif", ".tiff", ".dcm", ".dicom", ".jp2", ".j2k", ".jpx", ".jpc", ".j2c", ".jpf", ".pgm"),
    *(".ppm", ".pnm", ".pbm", ".pfm", ".fit", ".fits", ".im", ".spi", ".mpo", ".sgi", ".rgb", ".rgba", ".bw"),
)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(value[0]) and math.isfinite(value[1]) and value[0] < value[1]):
        raise ValueError(f"must be two numbers, the lower first, got [{value[0]:g},{value[1]:g}]")
    return value


ValueRangeSetting = Annotated[tuple[float, float], AfterValidator(_ordered)]


@dataclass
class Values:
    """Pixel values of more than 8 bits in a dataset."""

    n_files: int = 0  # with such values
    low: float = math.inf  # smallest value of all files
    high: float = -math.inf  # largest value
    declared: list[tuple[float, float] | None] = field(default_factory=list)  # distinct ranges; None: not declared
    is_float: bool = False  # whether any values are floating-point numbers
    truncated: str = ""  # first file with several channels of 16 bits
    truncated_high: int = 0  # largest of the upper 8 bits of such files

    def add(self, file: Path | BinaryIO, name: str) -> None:
        """Read one file. Files that cannot be read are left out: their reader reports them."""
        try:
            with opened(file) as image:
                if is_truncated(image):
                    self.truncated = self.truncated or name
                    self.truncated_high = max(self.truncated_high, int(np.asarray(image).max()))
                if not is_wide(image):
                    return
                declared, values = declared_range(image), np.asarray(image)
        except DecodingError:
            return
        self.n_files += 1
        self.low, self.high = min(self.low, float(np.nanmin(values))), max(self.high, float(np.nanmax(values)))
        self.is_float |= values.dtype.kind == "f" and declared is None
        if declared not in self.declared:
            self.declared.append(declared)

    def describe(self, value_range: tuple[float, float] | None) -> str:
        """Return how the values are scaled to 8 bits, in words; "": there are none.

        Args:
            value_range: setting of the dataset.

        >>> Values(n_files=40, low=3, high=4011, declared=[None]).describe((0, 4095))
        '40 pictures with values from 3 to 4011, of which 0 becomes black and 4095 white'
        """
        if not self.n_files:
            return ""
        declared = [each for each in self.declared if each is not None]
        used = value_range or (FULL_RANGE if not declared else declared[0] if len(self.declared) == 1 else None)
        scaled = (
            "scaled as their files declare"
            if used is None
            else f"of which {used[0]:g} becomes black and {used[1]:g} white"
        )
        return f"{self.n_files:,} picture{'s' * (self.n_files > 1)} with values from {_span(self)}, {scaled}"


_VALUES: Final = TypeAdapter(Values)


def may_be_wide(path: Path) -> bool:
    """Return whether a file may have more than 8 bits per value, by its suffix."""
    return path.suffix.lower() in _WIDE


def survey_values(paths: Iterable[Path], note: Path) -> Values:
    """Return the pixel values of more than 8 bits of files.

    Args:
        paths: of the images.
        note: file that keeps the result for the next call; its name must depend on the content of the images.
    """
    try:
        return _VALUES.validate_json(note.read_bytes())
    except (OSError, ValueError):  # absent or damaged: read the images
        found = _read(paths)
    with suppress(NasxError, OSError):  # a cache that cannot be written only costs time
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(asdict(found)).encode())
    return found


def _read(paths: Iterable[Path]) -> Values:
    found = Values()
    for path in paths:
        found.add(path, str(path))
    return found


def check_values(values: Values, value_range: tuple[float, float] | None, name: str) -> None:
    """Check that the values of a dataset can be scaled to 8 bits without a guess.

    Args:
        values: of the dataset.
        value_range: the setting.
        name: of the dataset in messages.

    Raises:
        DataError: if their range must be set; names the range found and the line to write.
    """
    if values.truncated and (values.truncated_high < MIN_SHARE * 256 or value_range not in (None, FULL_RANGE)):
        raise DataError(
            f"{values.truncated} has several channels of 16 bits each, of which only the upper 8 bits can be decoded. "
            "Save it, and all such images, with 8 bits per channel, scaled to 0-255."
        )
    if not values.n_files or value_range is not None:
        return
    found = f"{name}: {values.n_files:,} images have more than 8 bits per pixel, with values {_span(values)}"
    if len(values.declared) > 1:
        ranges = ", ".join("none" if each is None else f"[{each[0]:g},{each[1]:g}]" for each in values.declared[:4])
        raise DataError(f"{found}, and declare different ranges ({ranges}). Set one for all: {_line(values)}")
    if values.declared == [None]:
        if values.is_float or values.low < 0 or values.high > FULL_RANGE[1]:
            raise DataError(f"{found}. Set those that become black and white, e.g. {_line(values)}")
        if values.high < MIN_SHARE * FULL_RANGE[1]:
            raise DataError(
                f"{found}, less than a quarter of 16 bits. Set those that become black and white, e.g. {_line(values)}"
            )


def read_like(dataset: object, path: Path, *, size: int | tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return an image that is not of a dataset, uint8 (channels, height, width), read as the images of the dataset.

    Args:
        dataset: whose settings `value_range` and `interpolation` apply, if it has them.
        path: of the image.
        size: (height, width) in pixels, or one number for both.
        channels: 1 (gray) or 3 (red, green, blue).

    Raises:
        DataError: if the file cannot be read, or its values cannot be scaled without a guess.
    """
    value_range = getattr(dataset, "value_range", None)
    values = Values()
    values.add(path, str(path))
    check_values(values, value_range, str(path))
    interpolation = interpolation_of(getattr(dataset, "interpolation", None))
    return read_image(path, size=size, channels=channels, value_range=value_range, interpolation=interpolation)


def _span(values: Values) -> str:
    return f"{values.low:g} to {values.high:g}"


def _line(values: Values) -> str:
    return range_line(values.low, values.high, values.is_float)


def range_line(low: float, high: float, is_float: bool) -> str:
    """Return the setting for a range that was found: whole bits for integers from 0.

    >>> range_line(3, 4011, False), range_line(0, 0.9, True)
    ('dataset.value_range=[0,4095]', 'dataset.value_range=[0,0.9]')
    """
    if not is_float and low >= 0:
        low, high = 0, 2 ** max(8, math.ceil(math.log2(high + 1))) - 1
    return f"dataset.value_range=[{low:.10g},{high:.10g}]"
