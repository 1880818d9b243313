"""The 1,797 handwritten digits of 8x8 pixels inside scikit-learn (Alpaydin and Kaynak 1998, UCI): no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nasx.data.augmentation import Augmentation
from nasx.data.images import LabelledImages

_TEST_SHARE = 0.2
_TEST_SEED = 20_000  # a constant: the test images are the same for every run there will ever be
_AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0)


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Digits: 1,437 training and 360 test images. Published unsplit: a stratified fifth is the test."""

    augmentation: Augmentation = _AUGMENTATION

    name: ClassVar[str] = "digits"

    def train(self) -> LabelledImages:
        return _split()[0]

    def test(self) -> LabelledImages:
        return _split()[1]


def _split() -> tuple[LabelledImages, LabelledImages]:
    """Training and test part."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]  # published as 0 to 16
    labels = digits.target.astype(np.int64)
    everything = LabelledImages(images, labels, tuple(str(name) for name in digits.target_names))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_SHARE, stratify=labels, random_state=_TEST_SEED
    )
    return everything.take(train), everything.take(test)
