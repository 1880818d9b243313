"""Users' images as arrays in one .npz file."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from nasx.config.naming import place_title
from nasx.config.settings import settings
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import CHUNK, IMAGE_SIZES, LabeledImages
from nasx.data.decoding import scale
from nasx.data.files import Seed, TestFraction, checked_labels, concatenate, damaged_file, expand
from nasx.data.splits import hold_out
from nasx.data.value_range import ValueRangeSetting, range_line
from nasx.errors import DataError
from nasx.escaping import valid_name

_AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)
# Names of MedMNIST -> names of Keras
_ALIASES = {
    "train_images": "x_train",
    "train_labels": "y_train",
    "val_images": "x_val",
    "val_labels": "y_val",
    "test_images": "x_test",
    "test_labels": "y_test",
    "images": "x",
    "labels": "y",
}
_ADVICE = "Write it with numpy.savez(FILE, train_images=..., train_labels=..., test_images=..., test_labels=...)."
# Exceptions of numpy on damaged archives: RuntimeError if encrypted, MemoryError if a size is forged
_READING_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    LookupError,
    EOFError,
    OSError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    TypeError,
    OverflowError,
)
Arrays = Mapping[str, NDArray[Any]]


@settings
class NumpyArrays:
    """An .npz file with train_images, train_labels, test_images, test_labels, or only with images and labels.

    Images are uint8, or other numbers with `value_range`: (n, height, width), or with 1 or 3 channels last or first.
    Labels are integers from 0.
    `class_names`, an array of text, is optional.
    """

    file: str | None = None  # the .npz file
    value_range: ValueRangeSetting | None = None  # values that become black and white; required unless uint8
    test_fraction: TestFraction = 0.2  # share of the test set, if the file contains only images and labels
    seed: Seed = 0  # of that split
    augmentation: Augmentation = _AUGMENTATION

    places: ClassVar[tuple[str, ...]] = ("file",)

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return place_title(self.file, "numpy")

    def train(self) -> LabeledImages:
        """Return the training part, and val if present: a search draws its own validation images."""
        path = self._path()
        arrays = _load(path, "train_images", "train_labels", "val_images", "val_labels", "images", "labels")
        if "images" in arrays:
            return self._split(path, arrays)[0]
        class_names = _class_names(path, arrays, "train_labels")
        parts = [self._labelled(path, arrays, "train_", class_names)]
        if "val_images" in arrays:
            parts.append(self._labelled(path, arrays, "val_", class_names))
        if len({part.shape for part in parts}) > 1:
            raise damaged_file(path, "expected images of one size in train_images and val_images", _ADVICE)
        return concatenate(parts)

    def test(self) -> LabeledImages:
        path = self._path()
        arrays = _load(path, "test_images", "test_labels", "train_labels", "images", "labels")
        if "images" in arrays:
            return self._split(path, arrays)[1]
        return self._labelled(path, arrays, "test_", _class_names(path, arrays, "train_labels"))

    def _split(self, path: Path, arrays: Arrays) -> tuple[LabeledImages, LabeledImages]:
        """Return training and test images of a file that is not split."""
        everything = self._labelled(path, arrays, "", _class_names(path, arrays, "labels"))
        train, test = hold_out(everything.labels, everything.class_names, fraction=self.test_fraction, seed=self.seed)
        return everything.take(train), everything.take(test)

    def _labelled(self, path: Path, arrays: Arrays, prefix: str, class_names: tuple[str, ...]) -> LabeledImages:
        name = f"{prefix}images"
        pixels = _to_eight_bits(path, _required(path, arrays, name), name, self.value_range)
        images = _channels_first(path, pixels, name)
        labels = _required(path, arrays, f"{prefix}labels")
        if labels.ndim == 2 and labels.shape[1] == 1:  # as in MedMNIST and Keras
            labels = labels[:, 0]
        return LabeledImages(images, checked_labels(path, labels, len(images), class_names, _ADVICE), class_names)

    def _path(self) -> Path:
        if not self.file:
            raise DataError("A dataset of numpy arrays needs its file: set dataset.file=FILE.npz.")
        path = expand(self.file)
        if not os.path.isfile(path):  # noqa: PTH113 - unlike Path.is_file, False for a path that is too long
            problem = "is not a file" if os.path.exists(path) else "does not exist"  # noqa: PTH110
            raise DataError(f"{path} {problem}: a dataset of numpy arrays needs dataset.file=FILE.npz.")
        return path


def _load(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read the arrays `names` and `class_names` that are in the file, under either of their names; no others."""
    wanted = {alias: name for name in names for alias in (name, _ALIASES[name])} | {"class_names": "class_names"}
    try:
        with path.open("rb") as file:  # numpy would not close a file that it cannot read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("a single array")
            arrays = {wanted[key]: archive[key] for key in archive.files if key in wanted}
        if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{others[0]}, which is not an array")
    except _READING_ERRORS as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise damaged_file(path, f"expected an .npz archive of plain arrays, got: {problem}", _ADVICE) from error
    return arrays


def _required(path: Path, arrays: Arrays, name: str) -> NDArray[Any]:
    if name not in arrays:
        raise damaged_file(path, f"the array {name} is missing", _ADVICE)
    return arrays[name]


def _class_names(path: Path, arrays: Arrays, labels: str) -> tuple[str, ...]:
    """Return the class names in the file, or else the numbers from 0 to the largest of `labels`."""
    if (names := arrays.get("class_names")) is not None:
        valid = tuple(map(valid_name, names.tolist())) if names.ndim == 1 and names.dtype.kind == "U" else ()
        if len(set(valid)) < max(2, len(valid)):
            raise damaged_file(path, "expected class_names to be an array of at least two different texts", _ADVICE)
        return valid
    values = _required(path, arrays, labels)
    if values.dtype.kind not in "iu" or values.size == 0 or values.max() < 1 or values.max() >= values.size:
        raise damaged_file(path, f"expected {labels} to be integers that number the classes from 0", _ADVICE)
    return tuple(str(label) for label in range(int(values.max()) + 1))


def _to_eight_bits(
    path: Path, images: NDArray[Any], name: str, value_range: tuple[float, float] | None
) -> NDArray[np.uint8]:
    """Scale numbers of other types than uint8 by the range. Raises DataError if it is not set, with the range found."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf" or images.size == 0:
        raise damaged_file(path, f"expected {name} as uint8, 0 to 255, got {images.dtype}", _ADVICE)
    if value_range is None:
        low, high = np.nanmin(images), np.nanmax(images)
        raise DataError(
            f"{path}: expected {name} as uint8, 0 to 255, got {images.dtype} with values {low:g} to {high:g}. Set "
            f"those that become black and white, e.g. {range_line(float(low), float(high), images.dtype.kind == 'f')}"
        )
    chunks = [scale(images[start : start + CHUNK], value_range) for start in range(0, len(images), CHUNK)]
    return np.concatenate(chunks)


def _channels_first(path: Path, images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    shape = images.shape
    if images.ndim == 3:
        images = images[:, np.newaxis]
    elif images.ndim == 4 and shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4 or shape[1] not in (1, 3):
        raise damaged_file(
            path, f"expected {name} of shape (n, height, width) or with 1 or 3 channels, got {shape}", _ADVICE
        )
    low, high = IMAGE_SIZES
    if len(images) == 0 or not all(low <= side <= high for side in images.shape[2:]):
        raise damaged_file(
            path, f"expected {name} with images of {low} to {high} pixels per side, got shape {shape}", _ADVICE
        )
    return np.ascontiguousarray(images)
