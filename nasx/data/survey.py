"""Survey of a folder of images before they are read: number, sizes and colors, from the headers of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from nasx.data.folder import ImageFolder
from nasx.data.image_files import read_image
from nasx.errors import DataError

HEADERS: Final = 2000  # images whose header is read: the median hardly changes with more
DECODED: Final = 100  # images in color whose pixels are compared: many scans are gray but stored in color
SIDE: Final = 64  # pixels to which such an image is reduced
TOLERANCE: Final = 3  # of 255: JPEG stores the channels of a gray picture with rounding errors
GRAY_MODES: Final = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")  # of Pillow
ORIENTATION: Final = 0x0112  # key of the orientation in EXIF
TURNED: Final = (5, 6, 7, 8)  # orientations in which width and height are exchanged


@dataclass(frozen=True)
class Survey:
    """Facts about the training images of a folder."""

    n_images: int  # for training and validation
    n_looked_at: int  # of which the header was read
    height: int  # median, in pixels; 0 if no header can be read
    width: int  # median, in pixels
    is_gray: bool  # whether all images looked at are gray

    @property
    def side(self) -> int:
        """Short side of the median picture, in pixels."""
        return min(self.height, self.width)


class _Header(NamedTuple):
    path: Path
    height: int
    width: int
    mode: str


def survey_folder(dataset: ImageFolder) -> Survey:
    """Return facts about the training images of a folder, from evenly spaced files if there are many.

    Files that cannot be opened are left out: the reader reports them. Raises DataError as `ImageFolder.train_files`.
    """
    paths = dataset.train_files().paths
    found = [header for path in evenly(paths, HEADERS) if (header := _header(path)) is not None]
    in_color = [header.path for header in found if header.mode not in GRAY_MODES]
    return Survey(
        n_images=len(paths),
        n_looked_at=len(found),
        height=int(np.median([header.height for header in found])) if found else 0,
        width=int(np.median([header.width for header in found])) if found else 0,
        is_gray=bool(found) and all(map(_is_gray, evenly(in_color, DECODED))),
    )


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Return at most `most` of the paths, evenly spaced.

    >>> [path.name for path in evenly([Path(name) for name in "abcdef"], 3)]
    ['a', 'c', 'e']
    """
    n = min(len(paths), most)
    return [paths[i * len(paths) // n] for i in range(n)]


def _header(path: Path) -> _Header | None:
    """Return the size of an image as a viewer shows it, and its mode, without decoding it; None if that fails."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION) in TURNED:
                width, height = height, width
            return _Header(path, height, width, image.mode)
    except Exception:  # Pillow raises exceptions of many types for damaged files
        return None


def _is_gray(path: Path) -> bool:
    """Return whether the channels of an image are equal; True if it cannot be read."""
    try:
        pixels = read_image(path, size=SIDE, channels=3)
    except DataError:
        return True
    return bool(np.ptp(pixels.astype(int), axis=0).max() <= TOLERANCE)
