"""Facts about the files of a folder of images: sizes, modes, conversions, values, from their headers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from nasx.data.decoding import DecodingError, is_truncated, is_wide, opened

ORIENTATION: Final = 0x0112  # key of the orientation in EXIF


@dataclass
class FileFacts:
    """Facts about the readable image files of a dataset."""

    heights: list[int] = field(default_factory=list)  # in pixels, as stored
    widths: list[int] = field(default_factory=list)  # in pixels, as stored
    modes: Counter[str] = field(default_factory=Counter)  # files by mode of Pillow, e.g. RGB, L, I;16
    conversions: Counter[str] = field(default_factory=Counter)  # files by what changes when they are read

    def add(self, path: Path, channels: int) -> bool:
        """Add a file, and return whether it has more than 8 bits per value. Damaged files are left out."""
        try:
            with opened(path) as image:
                wide, truncated = is_wide(image), is_truncated(image)
                frames = int(image.info.get("frames", getattr(image, "n_frames", 1)))
                is_clear, is_turned = image.has_transparency_data, image.getexif().get(ORIENTATION, 1) != 1
                mode, (width, height) = image.mode, image.size
        except DecodingError:
            return False
        self.heights.append(height)
        self.widths.append(width)
        self.modes["RGB of 16 bits" if truncated else mode] += 1
        self.conversions += Counter(
            {
                "cropped to the central square": int(width != height),
                "rotated by EXIF orientation": int(is_turned),
                "transparent pixels on white": int(is_clear),
                "only the first of several frames or pages": int(frames > 1),
                "scaled to 8 bits": int(wide or truncated),
                "color to gray": int(channels == 1 and mode not in ("1", "L", "LA") and not wide),
                "gray to color": int(channels == 3 and (mode in ("1", "L", "LA") or wide)),
            }
        )
        return wide

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """(height, width) in pixels: smallest, median and largest of each."""
        if not self.heights:
            return {}
        names = ("min", "median", "max")
        quantiles = np.quantile([self.heights, self.widths], [0, 0.5, 1], axis=1).round().astype(int).tolist()
        return {name: (height, width) for name, (height, width) in zip(names, quantiles, strict=True)}
