"""Random crop, horizontal flip and cutout of whole batches, on their device.

Augmentation is a property of the dataset: a mirrored cat is a cat, a mirrored 3 is not a digit.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from nasx.config.settings import settings

Share = Annotated[float, Field(ge=0, le=1)]  # of an image's height


@settings
class Augmentation:
    """Random changes of a training image that keep its class."""

    crop_padding: Share = 0.125  # blank margin on each side, from which a random crop is taken; 0: no crop
    horizontal_flip: bool = False  # mirror an image left to right with probability 0.5
    cutout: Share = 0.25  # side of a blank square with a random center; 0: no square


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Return images that are cropped, mirrored and cut out at random, each independently.

    Blank pixels (the margin of a crop, a cutout) are 0: the mean color of normalized images, black for uint8. Shares
    are rounded to whole pixels. The center of a cutout is uniform over the image, so squares at the border are clipped
    (DeVries and Taylor 2017, arXiv 1708.04552). The call does not synchronize with the device.

    Args:
        images: (n, channels, height, width).
        augmentation: which changes, and how large.
        generator: on the device of the images.
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
    """Shift each image by up to `margin` pixels in both directions and mirror half of the images.

    A single gather by the source pixel of every target pixel: several times faster than indexing image by image (7 ms
    for 512 images of 3x32x32 on one core).
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
    """Return (n, length) booleans: for each image an interval of `side` pixels around a uniform center, clipped."""
    center = torch.randint(length, (len(images), 1), generator=generator, device=images.device)
    position = torch.arange(length, device=images.device) - (center - side // 2)
    return (position >= 0) & (position < side)
