"""Feature maps of images, as a frozen backbone returns them: the type on which the part on top of it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData


@dataclass(frozen=True, eq=False)
class Features(LabeledImages):
    """Feature maps of labeled images, in augmented views; `images` is a file that also has maps of other images.

    `images` is float16, (rows, channels, height, width), mapped from the file; `shape` is that of a feature map.
    """

    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty((1, 0), dtype=np.int64))
    # (views, n) row of each view of each image; the first view is the image itself

    @property
    def n_views(self) -> int:
        return len(self.rows)

    def take(self, indices: NDArray[np.int64]) -> Features:
        """Return the feature maps at `indices`, in that order, from the same file."""
        return replace(
            self,
            labels=self.labels[indices],
            files=tuple(self.files[i] for i in indices) if self.files else (),
            indices=self.positions[indices],
            rows=self.rows[:, indices],
        )

    def __reduce__(self) -> Any:
        """Pickle the path of the file instead of the feature maps."""
        assert isinstance(self.images, np.memmap) and self.images.filename is not None
        others = (self.labels, self.class_names, self.on_disk, self.files, self.indices, self.rows)
        return _reopened, (self.images.filename, self.images.shape, *others)


def open_features(file: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the feature maps in a file, (rows, channels, height, width) float16, mapped read-only."""
    if shape[0] == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype=np.float16)
    return np.memmap(file, dtype=np.float16, mode="r", shape=shape)


def _reopened(file: str, shape: tuple[int, ...], *others: Any) -> Features:
    return Features(open_features(Path(file), shape), *others)


class FeatureSource(Protocol):
    """Source of the feature maps of images: reads them from a cache, and computes those that are missing. Picklable."""

    def at(
        self, cut: str, images: LabeledImages, *, views: int = 1, augmentation: Augmentation | None = None
    ) -> Features:
        """Return the feature maps of images at a cut of the backbone.

        Args:
            cut: name of a stage of the backbone.
            images: uint8 images with labels.
            views: number of views of each image: the image itself, and augmented ones.
            augmentation: of the other views.

        Raises:
            ResourceError: if there is no room for them.
        """


def at_cut(data: SearchData, cut: str, *, views: int = 1, augmentation: Augmentation | None = None) -> SearchData:
    """Return the data with feature maps instead of images. The validation images have one view, without augmentation.

    Args:
        data: with a source of features.
        cut: name of a stage of the backbone.
        views: number of views of each training image.
        augmentation: of the training images.
    """
    assert data.features is not None
    train = data.features.at(cut, data.train, views=views, augmentation=augmentation)
    validation = data.features.at(cut, data.validation)
    channels = train.shape[0]
    return SearchData(train, validation, np.zeros(channels, np.float32), np.ones(channels, np.float32))
