"""Bright squares, discs and crosses on a dark, noisy background."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from nasx.config.settings import checked
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)

CLASS_NAMES = ("square", "disc", "cross")
SIDE = 10  # pixels


class Shapes:
    """Gray images of 10x10 pixels with a square, a disc or a cross."""

    name = "shapes"

    @checked
    def __init__(
        self, *, images: Annotated[int, Field(ge=30)] = 240, augmentation: Augmentation = NO_AUGMENTATION
    ) -> None:
        """`images`: number of training images; there are a third as many test images."""
        self.images = images
        self.augmentation = augmentation

    def train(self) -> LabeledImages:
        """Return the training images."""
        return draw(self.images, seed=0)

    def test(self) -> LabeledImages:
        """Return the test images."""
        return draw(self.images // 3, seed=1)


def draw(n: int, seed: int) -> LabeledImages:
    """Return `n` images with random noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASS_NAMES)).astype(np.int64)
    y, x = np.abs(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)
    shapes = np.stack([np.maximum(x, y) < 3, np.hypot(x, y) < 3.5, np.minimum(x, y) < 1])
    gray = 120 * shapes[labels] + rng.normal(60, 20, size=(n, SIDE, SIDE))
    return LabeledImages(np.clip(gray, 0, 255).astype(np.uint8)[:, None], labels, CLASS_NAMES)
