"""CIFAR-10, CIFAR-100 (Krizhevsky 2009) and ImageNet-16-120 (Chrabaszcz, Loshchilov and Hutter 2017).

All three are published as pickled batches for Python; `nasx.data.unpickle` reads them without executing code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from nasx.config.settings import settings
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.data.files import checked_labels, concatenate, damaged_file, find_folder, read_errors
from nasx.data.unpickle import load_pickled_dict

_SHAPE = (3, 32, 32)  # a row of a batch: all red pixels, then green, then blue
_AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)  # the paper's


@settings
class _CIFAR:
    """Base of both: a folder of pickled batches and a file with the names of the classes."""

    root: str | None = None  # the published folder, or the folder that contains it
    augmentation: Augmentation = _AUGMENTATION

    places: ClassVar[tuple[str, ...]] = ("root",)
    name: ClassVar[str]
    title: ClassVar[str]
    folder: ClassVar[str]
    meta_file: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    test_file: ClassVar[str]
    names_key: ClassVar[str]
    labels_key: ClassVar[str]

    def train(self) -> LabeledImages:
        return self._read(self.train_files)

    def test(self) -> LabeledImages:
        return self._read((self.test_file,))

    def _read(self, files: Sequence[str]) -> LabeledImages:
        folder = find_folder(self.title, self.root, self.folder)
        meta = self._load(folder / self.meta_file)
        class_names = _class_names(folder / self.meta_file, meta, self.names_key)
        parts = [self._read_batch(folder / file, class_names, meta.get("num_cases_per_batch")) for file in files]
        return concatenate(parts)

    def _read_batch(self, path: Path, class_names: tuple[str, ...], n_expected: int | None) -> LabeledImages:
        """Read one batch; check that it has `n_expected` images, if the meta file contains that number."""
        batch = self._load(path)
        pixels = checked_pixels(path, batch.get("data"), _SHAPE)
        if n_expected is not None and len(pixels) != n_expected:
            raise damaged_file(path, f"expected {n_expected} images, got {len(pixels)}")
        labels = checked_labels(path, batch.get(self.labels_key), len(pixels), class_names)
        return LabeledImages(pixels, labels, class_names)

    def _load(self, path: Path) -> dict[str, Any]:
        with read_errors(path, self.title, self.folder):
            return load_pickled_dict(path)


class CIFAR10(_CIFAR):
    """CIFAR-10: 50,000 training and 10,000 test images of ten kinds of animals and vehicles."""

    name = "cifar10"
    title = "CIFAR-10"
    folder = "cifar-10-batches-py"
    meta_file = "batches.meta"
    train_files = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
    test_file = "test_batch"
    names_key = "label_names"
    labels_key = "labels"


class CIFAR100(_CIFAR):
    """CIFAR-100 with its fine labels: 50,000 training and 10,000 test images of 100 kinds of objects."""

    name = "cifar100"
    title = "CIFAR-100"
    folder = "cifar-100-python"
    meta_file = "meta"
    train_files = ("train",)
    test_file = "test"
    names_key = "fine_label_names"
    labels_key = "fine_labels"


def checked_pixels(path: Path, pixels: object, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the rows of a batch, one image per row, as images (n, *shape).

    Args:
        path: of the batch, for messages.
        pixels: expected to be an array, uint8 (n, channels * height * width).
        shape: (channels, height, width).

    Raises:
        DataError: if `pixels` is anything else, or has no rows.
    """
    n_values = int(np.prod(shape))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (n_values,):
        raise damaged_file(path, f"expected data of shape (n, {n_values}) and type uint8")
    if len(pixels) == 0:
        raise damaged_file(path, "it contains no images")
    return pixels.reshape(-1, *shape)


def _class_names(path: Path, meta: dict[str, Any], key: str) -> tuple[str, ...]:
    names = meta.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, bytes)) for name in names):
        raise damaged_file(path, f"expected the names of the classes in {key}")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)


N_CLASSES: Final = 120
_ALL_CLASSES: Final = tuple(str(number) for number in range(1001))  # published labels start at 1
_SHAPE_16: Final = (3, 16, 16)  # a row of a batch: all red pixels, then green, then blue
_AUGMENTATION_16: Final = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)  # the paper's


@settings
class ImageNet16:
    """ImageNet-16-120: 151,700 training and 6,000 test images of 120 kinds of animals."""

    root: str | None = None  # the published folder, or the folder that contains it
    augmentation: Augmentation = _AUGMENTATION_16

    name: ClassVar[str] = "imagenet16_120"
    places: ClassVar[tuple[str, ...]] = ("root",)
    title: ClassVar[str] = "ImageNet-16-120"
    folder: ClassVar[str] = "ImageNet16"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"train_data_batch_{number}" for number in range(1, 11))
    test_file: ClassVar[str] = "val_data"

    def train(self) -> LabeledImages:
        return self._read(self.train_files)

    def test(self) -> LabeledImages:
        return self._read((self.test_file,))

    def _read(self, files: Sequence[str]) -> LabeledImages:
        folder = find_folder(self.title, self.root, self.folder)
        return concatenate([self._read_batch(folder / file) for file in files])

    def _read_batch(self, path: Path) -> LabeledImages:
        """Return the images of one batch that belong to the first 120 classes."""
        with read_errors(path, self.title, self.folder):
            batch = load_pickled_dict(path)
        pixels = checked_pixels(path, batch.get("data"), _SHAPE_16)
        labels = checked_labels(path, batch.get("labels"), len(pixels), _ALL_CLASSES)
        if labels.min() < 1:
            raise damaged_file(path, "expected labels 1 to 1000, got 0")
        chosen = np.flatnonzero(labels <= N_CLASSES)
        return LabeledImages(pixels[chosen], labels[chosen] - 1, class_names())


def class_names() -> tuple[str, ...]:
    """Return the names of the 120 classes, in the order of their labels."""
    return tuple(name for _, name in _classes())


def synsets() -> tuple[str, ...]:
    """Return the WordNet ids of the classes, for `nasx.introspection.class_similarity.wordnet_similarity`."""
    return tuple(synset for synset, _ in _classes())


@cache
def _classes() -> tuple[tuple[str, str], ...]:
    lines = Path(__file__).with_name("imagenet16_120.txt").read_text(encoding="utf-8").splitlines()
    return tuple((synset, name) for synset, _, name in (line.partition(" ") for line in lines))
