"""A user's own images as arrays in one .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import IMAGE_SIZES, LabeledImages
from nasx.data.files import checked_labels, concatenate, damaged_file, expand
from nasx.data.splits import hold_out
from nasx.errors import DataError, SettingError

_AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)
# Names of MedMNIST's files, and what Keras calls the same
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
# What numpy raises on damaged archives; a RuntimeError on encrypted ones, a MemoryError on forged sizes
_DAMAGE = (
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


@dataclass(frozen=True, kw_only=True)
class NumpyArrays:
    """An .npz file with train_images, train_labels, test_images, test_labels, or with images and labels alone.

    Images are uint8, (n, height, width), or with 1 or 3 channels last or first; labels are whole numbers from 0;
    `class_names`, where the file has it, is an array of text.
    """

    file: str | None = None  # the .npz
    test_fraction: float = 0.2  # share kept apart as the test, where the file comes whole
    seed: int = 0  # of that split
    augmentation: Augmentation = _AUGMENTATION

    name: ClassVar[str] = "numpy"

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise SettingError("test_fraction", f"must lie between 0 and 1, got {self.test_fraction}")
        if self.seed < 0:
            raise SettingError("seed", f"must be at least 0, got {self.seed}")

    def train(self) -> LabeledImages:
        """The training part, and val where there is one: a search cuts its own validation images."""
        path = self._path()
        arrays = _load(path, "train_images", "train_labels", "val_images", "val_labels", "images", "labels")
        if "images" in arrays:
            return self._halves(path, arrays)[0]
        class_names = _class_names(path, arrays, "train_labels")
        parts = [_labelled(path, arrays, "train_", class_names)]
        if "val_images" in arrays:
            parts.append(_labelled(path, arrays, "val_", class_names))
        if len({part.shape for part in parts}) > 1:
            raise damaged_file(path, "expected images of one size in train_images and val_images", _ADVICE)
        return concatenate(parts)

    def test(self) -> LabeledImages:
        path = self._path()
        arrays = _load(path, "test_images", "test_labels", "train_labels", "images", "labels")
        if "images" in arrays:
            return self._halves(path, arrays)[1]
        return _labelled(path, arrays, "test_", _class_names(path, arrays, "train_labels"))

    def _halves(self, path: Path, arrays: Arrays) -> tuple[LabeledImages, LabeledImages]:
        """Training and test images of a file that comes whole."""
        everything = _labelled(path, arrays, "", _class_names(path, arrays, "labels"))
        train, test = hold_out(everything.labels, everything.class_names, fraction=self.test_fraction, seed=self.seed)
        return everything.take(train), everything.take(test)

    def _path(self) -> Path:
        if not self.file:
            raise DataError("A dataset of numpy arrays needs its file: give dataset.file=FILE.npz.")
        path = expand(self.file)
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise DataError(f"{path} {what}: a dataset of numpy arrays needs dataset.file=FILE.npz.")
        return path


def _load(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Those of the arrays `names`, and `class_names`, that the file holds under either name. Others are not read."""
    wanted = {alias: name for name in names for alias in (name, _ALIASES[name])} | {"class_names": "class_names"}
    try:
        with path.open("rb") as file:  # numpy leaves a file open that it opened and cannot read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("one array, no archive of several")
            arrays = {wanted[key]: archive[key] for key in archive.files if key in wanted}
        if strangers := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{strangers[0]}, which is no array")
    except _DAMAGE as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise damaged_file(path, f"expected an .npz archive of plain arrays, got: {problem}", _ADVICE) from error
    return arrays


def _required(path: Path, arrays: Arrays, name: str) -> NDArray[Any]:
    if name not in arrays:
        raise damaged_file(path, f"it lacks the array {name}", _ADVICE)
    return arrays[name]


def _class_names(path: Path, arrays: Arrays, labels: str) -> tuple[str, ...]:
    """As the file gives them, else the numbers that `labels` goes up to."""
    if (names := arrays.get("class_names")) is not None:
        if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < max(2, len(names)):
            raise damaged_file(path, "expected class_names to be a list of at least two different texts", _ADVICE)
        return tuple(names.tolist())
    values = _required(path, arrays, labels)
    if values.dtype.kind not in "iu" or values.size == 0 or values.max() < 1 or values.max() >= values.size:
        raise damaged_file(path, f"expected {labels} to be whole numbers that count the classes from 0", _ADVICE)
    return tuple(str(label) for label in range(int(values.max()) + 1))


def _labelled(path: Path, arrays: Arrays, prefix: str, class_names: tuple[str, ...]) -> LabeledImages:
    images = _channels_first(path, _required(path, arrays, f"{prefix}images"), f"{prefix}images")
    labels = _required(path, arrays, f"{prefix}labels")
    if labels.ndim == 2 and labels.shape[1] == 1:  # as MedMNIST and Keras have them
        labels = labels[:, 0]
    return LabeledImages(images, checked_labels(path, labels, len(images), class_names, _ADVICE), class_names)


def _channels_first(path: Path, images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise damaged_file(path, f"expected {name} as uint8, 0 to 255, got {images.dtype}", _ADVICE)
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
            path, f"expected {name} to hold images of {low} to {high} pixels, got shape {shape}", _ADVICE
        )
    return np.ascontiguousarray(images)
