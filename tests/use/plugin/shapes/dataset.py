"""Bright squares, discs and crosses on dark ground, in noise."""

from __future__ import annotations

import numpy as np

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.errors import SettingError

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)

CLASS_NAMES = ("square", "disc", "cross")
SIDE = 10  # pixels


class Shapes:
    """Grey images of 10x10 pixels with a square, a disc or a cross."""

    name = "shapes"

    def __init__(self, *, images: int = 240, augmentation: Augmentation = NO_AUGMENTATION) -> None:
        """`images`: in the training part; the test has a third as many."""
        if images < 30:
            raise SettingError("images", f"must be at least 30, got {images}")
        self.images = images
        self.augmentation = augmentation

    def train(self) -> LabeledImages:
        return draw(self.images, seed=0)

    def test(self) -> LabeledImages:
        return draw(self.images // 3, seed=1)


def draw(n: int, seed: int) -> LabeledImages:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASS_NAMES)).astype(np.int64)
    y, x = np.abs(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)
    shapes = np.stack([np.maximum(x, y) < 3, np.hypot(x, y) < 3.5, np.minimum(x, y) < 1])
    grey = 120 * shapes[labels] + rng.normal(60, 20, size=(n, SIDE, SIDE))
    return LabeledImages(np.clip(grey, 0, 255).astype(np.uint8)[:, None], labels, CLASS_NAMES)
