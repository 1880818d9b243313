"""ImageNet-16-120: ImageNet in 16x16 pixels (Chrabaszcz, Loshchilov and Hutter 2017), its first 120 classes.

As published: ten pickled batches of training images and one of validation images, labelled 1 to 1000. The cut to the
labels 1 to 120 is NAS-Bench-201's. The official validation images, 6,000 of them, are the test part here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from nasx.data.augmentation import Augmentation
from nasx.data.cifar import checked_pixels
from nasx.data.files import checked_labels, damaged, find_folder, joined, reading
from nasx.data.images import LabelledImages
from nasx.data.unpickle import load_pickled_dict

N_CLASSES: Final = 120
_ALL_CLASSES: Final = tuple(str(number) for number in range(1001))  # labels as published: 0 does not occur
_SHAPE: Final = (3, 16, 16)  # a row of a batch: all red pixels, all green, all blue
_AUGMENTATION: Final = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)  # the paper's


@dataclass(frozen=True, kw_only=True)
class ImageNet16:
    """ImageNet-16-120: 151,700 training and 6,000 test images of 120 kinds of animals."""

    root: str | None = None  # the folder that holds the published folder, or that folder itself
    augmentation: Augmentation = _AUGMENTATION

    name: ClassVar[str] = "imagenet16_120"
    title: ClassVar[str] = "ImageNet-16-120"
    folder: ClassVar[str] = "ImageNet16"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"train_data_batch_{number}" for number in range(1, 11))
    test_file: ClassVar[str] = "val_data"

    def train(self) -> LabelledImages:
        return self._read(self.train_files)

    def test(self) -> LabelledImages:
        return self._read((self.test_file,))

    def _read(self, files: Sequence[str]) -> LabelledImages:
        folder = find_folder(self.title, self.root, self.folder)
        return joined([self._read_batch(folder / file) for file in files])

    def _read_batch(self, path: Path) -> LabelledImages:
        """The images of one batch that are of the first 120 classes."""
        with reading(path, self.title, self.folder):
            batch = load_pickled_dict(path)
        pixels = checked_pixels(path, batch.get("data"), _SHAPE)
        labels = checked_labels(path, batch.get("labels"), len(pixels), _ALL_CLASSES)
        if labels.min() < 1:
            raise damaged(path, "expected labels 1 to 1000, got 0")
        chosen = np.flatnonzero(labels <= N_CLASSES)
        return LabelledImages(pixels[chosen], labels[chosen] - 1, class_names())


def class_names() -> tuple[str, ...]:
    """The 120 classes in words, in the order of their labels."""
    return tuple(name for _, name in _classes())


def synsets() -> tuple[str, ...]:
    """Their ids in WordNet, for `nasx.introspection.weighting.wordnet_similarity`."""
    return tuple(synset for synset, _ in _classes())


@cache
def _classes() -> tuple[tuple[str, str], ...]:
    lines = Path(__file__).with_name("imagenet16_120.txt").read_text(encoding="utf-8").splitlines()
    return tuple((synset, name) for synset, _, name in (line.partition(" ") for line in lines))
