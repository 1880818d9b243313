"""Datasets that need no download: the digits of scikit-learn, and drawn lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.datasets import load_digits

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.data.splits import hold_out
from nasx.errors import SettingError

_TEST_SHARE = 0.2
_TEST_SEED = 20_000  # a constant: the test images are the same for every run there will ever be
# Mean validation error of 3 cells x 3 seeds, 15 epochs: none 1.8 %, crop 1.8, this 1.5, cutout 0.25 1.9, both 2.4
_DIGITS_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0.125)


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Digits: 1,437 training and 360 test images. Published unsplit: a stratified fifth is the test."""

    augmentation: Augmentation = _DIGITS_AUGMENTATION

    name: ClassVar[str] = "digits"

    def train(self) -> LabeledImages:
        return _split()[0]

    def test(self) -> LabeledImages:
        return _split()[1]


def _split() -> tuple[LabeledImages, LabeledImages]:
    """Training and test part."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]  # published as 0 to 16
    labels = digits.target.astype(np.int64)
    everything = LabeledImages(images, labels, tuple(str(name) for name in digits.target_names))
    train, test = hold_out(labels, everything.class_names, fraction=_TEST_SHARE, seed=_TEST_SEED)
    return everything.take(train), everything.take(test)


_SIDE = 12  # pixels
_CLASS_NAMES = ("none", "horizontal", "vertical", "diagonal")
_LINES_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=True, cutout=0)  # a mirrored line keeps its class


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Lines: grey images of 12x12 pixels with no, a horizontal, a vertical or a diagonal line, in noise."""

    train_images: int = 1600  # images in the training part, the classes as equal as can be
    test_images: int = 400  # images in the test part
    noise: float = 0.15  # standard deviation of the noise; 1 is the whole range from black to white
    seed: int = 0  # of the images themselves
    augmentation: Augmentation = _LINES_AUGMENTATION

    name: ClassVar[str] = "lines"

    def __post_init__(self) -> None:
        for setting in ("train_images", "test_images"):
            if (n := getattr(self, setting)) < len(_CLASS_NAMES):
                raise SettingError(setting, f"must be at least {len(_CLASS_NAMES)}, one a class, got {n}")
        if not 0 <= self.noise <= 1:
            raise SettingError("noise", f"must be a share of the range from black to white, 0 to 1, got {self.noise}")
        if self.seed < 0:
            raise SettingError("seed", f"must be at least 0, got {self.seed}")

    def train(self) -> LabeledImages:
        return draw_lines(self.train_images, self.noise, np.random.default_rng([self.seed, 0]))

    def test(self) -> LabeledImages:
        return draw_lines(self.test_images, self.noise, np.random.default_rng([self.seed, 1]))


def draw_lines(n: int, noise: float, rng: np.random.Generator) -> LabeledImages:
    """`n` images in random order. A line crosses the whole image, at least two pixels from the border where straight,
    and is between half and full brightness; a diagonal runs up or down, within three pixels of the corners.
    """
    labels = rng.permutation(np.arange(n) % len(_CLASS_NAMES)).astype(np.int64)
    row, column = np.arange(_SIDE)[:, np.newaxis], np.arange(_SIDE)
    straight = rng.integers(2, _SIDE - 2, size=(n, 1, 1))  # the row or column of a straight line
    shift = rng.integers(-3, 4, size=(n, 1, 1))
    falling = rng.integers(2, size=(n, 1, 1), dtype=np.int8).astype(bool)
    diagonal = np.where(falling, row - column, row + column - (_SIDE - 1)) == shift
    kind = labels[:, np.newaxis, np.newaxis]
    line = np.select([kind == 1, kind == 2, kind == 3], [row == straight, column == straight, diagonal], default=False)
    brightness = rng.uniform(0.5, 1, size=(n, 1, 1))
    grey = line * brightness + rng.normal(0, noise, size=line.shape)
    images = np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
    return LabeledImages(images[:, np.newaxis], labels, _CLASS_NAMES)
