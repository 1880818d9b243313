"""Labelled images in memory: what every reader gives, and what a search trains and scores on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZES = (8, 224)  # pixels a side, smallest and largest: what the networks are made for


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one size with one label each."""

    images: NDArray[np.uint8]  # (n, channels, height, width), 0 to 255
    labels: NDArray[np.int64]  # (n,), 0 <= label < len(class_names)
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self.images.shape[1:]

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def take(self, indices: NDArray[np.int64]) -> LabelledImages:
        """The images at `indices`, in that order."""
        return LabelledImages(self.images[indices], self.labels[indices], self.class_names)


@dataclass(frozen=True, eq=False)
class SearchData:
    """What a trial sees: training images, validation images, and how pixels are normalised. Never the test split."""

    train: LabelledImages
    validation: LabelledImages
    mean: NDArray[np.float32]  # (channels,) of the training images, scaled to [0, 1]
    std: NDArray[np.float32]  # (channels,) likewise; 1 where a channel is constant

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.train.shape

    @property
    def n_classes(self) -> int:
        return self.train.n_classes
