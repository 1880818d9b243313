"""Random crops, mirrorings and cutout of whole batches, on the device that holds them.

Augmentation is a property of the dataset: a mirrored cat is a cat, a mirrored 3 is no digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nasx.errors import SettingError


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a training image without making it another one. Shares are of the image's height."""

    crop_padding: float = (
        0.125  # share: blank margin on each side, from which a random crop is taken; 0 switches it off
    )
    horizontal_flip: bool = False  # mirror every second image, left to right
    cutout: float = 0.25  # share: side of a blank square with a random centre; 0 switches it off

    def __post_init__(self) -> None:
        for name in ("crop_padding", "cutout"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise SettingError(name, f"must be a share of the image's height, 0 to 1, got {share}")


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """`images` (n, channels, height, width) cropped, mirrored and cut out, each by its own draw.

    What becomes blank (the margin of a crop, a cutout) is 0: the mean colour where images are normalised, black where
    they are uint8. Shares are rounded to whole pixels. A cutout's centre is uniform over the image, so that squares at
    the border are clipped (DeVries and Taylor 2017, arXiv 1708.04552).

    `generator` lives on the images' device. Nothing waits for the device.
    """
    _, _, height, width = images.shape
    margin = round(augmentation.crop_padding * height)
    side = round(augmentation.cutout * height)
    if margin or augmentation.horizontal_flip:
        images = _crop_and_flip(images, margin, augmentation.horizontal_flip, generator)
    if side:
        row_cut = _random_interval(images, height, side, generator)
        column_cut = _random_interval(images, width, side, generator)
        images = images * ~(row_cut[:, :, None] & column_cut[:, None, :])[:, None]
    return images


def _crop_and_flip(images: Tensor, margin: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Moves each image by up to `margin` pixels either way and mirrors half of them.

    One gather by the source pixel of every target pixel: several times faster than indexing image by image, and as
    fast as it gets with tensor operations (7 ms for 512 images of 3x32x32 on one core).
    """
    n, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(n, height)
    columns = torch.arange(width, device=device).expand(n, width)
    if flip:
        mirrored = torch.randint(2, (n, 1), generator=generator, device=device, dtype=torch.bool)
        columns = torch.where(mirrored, columns.flip(1), columns)
    if margin:
        rows = rows + torch.randint(-margin, margin + 1, (n, 1), generator=generator, device=device)
        columns = columns + torch.randint(-margin, margin + 1, (n, 1), generator=generator, device=device)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    moved = images.flatten(2).gather(2, source.flatten(1)[:, None].expand(n, channels, -1)).view_as(images)
    if not margin:
        return moved
    row_inside = (rows >= 0) & (rows < height)
    column_inside = (columns >= 0) & (columns < width)
    return moved * (row_inside[:, :, None] & column_inside[:, None, :])[:, None]


def _random_interval(images: Tensor, length: int, side: int, generator: torch.Generator) -> Tensor:
    """(n, length) booleans: for each image an interval of `side` pixels around a uniform centre, clipped."""
    centre = torch.randint(length, (len(images), 1), generator=generator, device=images.device)
    position = torch.arange(length, device=images.device) - (centre - side // 2)
    return (position >= 0) & (position < side)
