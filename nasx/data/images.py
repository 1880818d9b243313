"""Labelled images, in memory or mapped from disk: what every reader gives, and what a search trains and scores on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasx.data.mapped import open_rows, take_rows

SIZES = (8, 224)  # pixels a side, smallest and largest: what the networks are made for


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one size with one label each."""

    images: NDArray[np.uint8]  # (n, channels, height, width), 0 to 255
    labels: NDArray[np.int64]  # (n,), 0 <= label < len(class_names)
    class_names: tuple[str, ...]
    on_disk: bool = False  # `images` is mapped from a file and not to be loaded whole: batches stream from it

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
        """The images at `indices`, in that order; on disk where these are."""
        if self.on_disk:
            return LabelledImages(take_rows(self.images, indices), self.labels[indices], self.class_names, on_disk=True)
        return LabelledImages(self.images[indices], self.labels[indices], self.class_names)

    def __reduce__(self) -> Any:
        """Travels to other processes by the path of its file, where it is on disk: numpy would send all pixels."""
        if not self.on_disk:
            return LabelledImages, (self.images, self.labels, self.class_names)
        assert isinstance(self.images, np.memmap)
        return _reopened, (self.images.filename, self.labels, self.class_names)


def _reopened(file: str, labels: NDArray[np.int64], class_names: tuple[str, ...]) -> LabelledImages:
    return LabelledImages(open_rows(Path(file)), labels, class_names, on_disk=True)


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
