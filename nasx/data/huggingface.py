"""Datasets of the Hugging Face hub, or local parquet files of the same form: images with one label each.

Needs the package datasets. Loading scripts of datasets are never executed.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from nasx.config.settings import settings
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, stays_on_disk, write_rows
from nasx.data.decoding import Interpolation
from nasx.data.download import cache_folder
from nasx.data.files import Seed, TestFraction, expand
from nasx.data.image_files import ImageSize, decode_image
from nasx.data.splits import hold_out
from nasx.data.value_range import ValueRangeSetting, Values, check_values
from nasx.errors import DataError, ResourceError, did_you_mean
from nasx.escaping import valid_name
from nasx.extras import install_command

_AUGMENTATION: Final = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)
_ADVICE: Final = "set dataset.image_column and dataset.label_column"


@settings
class HuggingFace:
    """Images and labels in two columns of a dataset that the library `datasets` reads."""

    path: str | None = None  # a name on the hub, e.g. ylecun/mnist, or a parquet file or a directory of them
    subset: str | None = None  # name of a part of the dataset, if it has several
    train_split: str = "train"  # name of the split with training images
    test_split: str | None = "test"  # name of the split with test images; None: a share of the training split
    image_column: str | None = None  # None: the first column of images
    label_column: str | None = None  # None: the first column of class labels
    image_size: ImageSize = 32  # pixels per side: images are cropped to their central square and resized
    grayscale: bool = False  # one channel instead of three
    value_range: ValueRangeSetting | None = None  # values of more than 8 bits that become black and white
    interpolation: Interpolation = "bicubic"  # with which images are resized
    test_fraction: TestFraction = 0.2  # share of the test set, if test_split is None
    seed: Seed = 0  # of that split
    memory_map: bool | None = None  # read batches from disk; None: if images take over a quarter of the memory
    cache: str | None = None  # directory for the resized images that stay on disk; None: the user's cache directory
    augmentation: Augmentation = _AUGMENTATION

    name: ClassVar[str] = "huggingface"
    places: ClassVar[tuple[str, ...]] = ("path", "test_split", "memory_map", "cache")

    def train(self) -> LabeledImages:
        images = self._read(self.train_split)
        return images if self.test_split else images.take(self._split(images)[0])

    def test(self) -> LabeledImages:
        if self.test_split:
            return self._read(self.test_split)
        images = self._read(self.train_split)
        return images.take(self._split(images)[1])

    def _split(self, images: LabeledImages) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return hold_out(images.labels, images.class_names, fraction=self.test_fraction, seed=self.seed)

    def _read(self, split: str) -> LabeledImages:
        rows = self._rows(split)
        images = _column(rows, self.image_column, "Image", "image_column", self.path)
        labels = _column(rows, self.label_column, "ClassLabel", "label_column", self.path)
        numbers, class_names = _labels(rows, labels, f"{self.path}, split {split}")
        if not len(numbers):
            raise DataError(f"{self.path}, split {split}, contains no images.")
        channels = 1 if self.grayscale else 3
        shape = (len(numbers), channels, self.image_size, self.image_size)
        where = f"{self.path}, split {split}"
        decoded = (
            self._decode(value, f"{where}, row {number}", images, channels)
            for number, value in enumerate(_undecoded(rows, images))
        )
        self._check_values(_undecoded(rows, images), where)
        on_disk = stays_on_disk(self.memory_map, math.prod(shape))
        if on_disk:
            folder = expand(self.cache) if self.cache else cache_folder()
            pixels = write_rows(folder / f"huggingface-{split}-{rows._fingerprint}.npy", shape, decoded)
        else:
            pixels = np.empty(shape, np.uint8)
            for number, image in enumerate(decoded):
                pixels[number] = image
        return LabeledImages(pixels, numbers, class_names, on_disk=on_disk)

    def _check_values(self, images: Iterator[Any], where: str) -> None:
        """Check that values of more than 8 bits can be scaled without a guess."""
        if self.value_range is not None:
            return
        values = Values()
        for number, value in enumerate(images):
            raw = value.get("bytes") if isinstance(value, dict) else None
            if isinstance(raw, bytes):
                values.add(io.BytesIO(raw), f"{where}, row {number}")
        check_values(values, None, where)

    def _decode(self, value: Any, where: str, column: str, channels: int) -> NDArray[np.uint8]:
        raw = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(raw, bytes):  # a path could name any file of this machine
            raise DataError(f"{where} has no image in the column {column}: images must be stored as bytes.")
        return decode_image(
            io.BytesIO(raw),
            where,
            size=self.image_size,
            channels=channels,
            value_range=self.value_range,
            interpolation=self.interpolation,
        )

    def _rows(self, split: str) -> Any:
        """Return a split as the library reads it, with undecoded images."""
        if not self.path:
            raise DataError(
                "A dataset of Hugging Face needs its path: set dataset.path to a name on the hub or a parquet file."
            )
        try:
            import datasets  # optional dependency
        except ImportError as error:
            raise ResourceError(
                f"datasets of Hugging Face need the package datasets: {install_command('huggingface')}."
            ) from error
        place = expand(self.path)
        arguments: dict[str, Any] = {"path": self.path, "name": self.subset}
        if place.suffix == ".parquet" or place.is_dir():
            files = _local_files(place, split, is_only=split == self.train_split)
            if not files:
                raise self._no_split(split, [path.stem for path in place.rglob("*.parquet")])
            arguments = {"path": "parquet", "data_files": {split: files}}
        with _quiet(datasets):
            try:
                found = datasets.load_dataset(**arguments)
            except ImportError:
                raise
            except Exception as error:  # on damaged files the library raises exceptions of many types
                raise DataError(f"{self.path} cannot be read: {_first_line(error)}.") from error
        if split not in found:
            raise self._no_split(split, [str(name) for name in found])
        return found[split]

    def _no_split(self, split: str, known: list[str]) -> DataError:
        hint = "" if split != self.test_split else " If there is no test split, set dataset.test_split=null."
        return DataError(f"{self.path} has no split {split!r}. {did_you_mean(split, known)}{hint}")


def _local_files(place: Path, split: str, *, is_only: bool) -> list[str]:
    """Return the parquet files of a split: in a directory train.parquet, train-00000-of-00002.parquet, ...

    The library itself looks for the name of the split in the whole path: in a directory test-data all files would be
    test files. A single file is the only split, whatever its name.
    """
    if place.is_dir():
        name = re.compile(rf"{re.escape(split)}([-_.].*)?\.parquet")
        return sorted(str(path) for path in place.rglob("*.parquet") if name.fullmatch(path.name))
    if not place.is_file():
        raise DataError(
            f"{place} does not exist: dataset.path must be a parquet file, a directory or a name on the hub."
        )
    return [str(place)] if is_only else []


def _column(rows: Any, given: str | None, kind: str, setting: str, path: str | None) -> str:
    """Return the given column, or the first column with features of a kind."""
    if given is not None:
        if given not in rows.features:
            raise DataError(
                f"{path} has no column {given!r}, set as dataset.{setting}. {did_you_mean(given, rows.features)}"
            )
        return given
    found = [name for name, feature in rows.features.items() if type(feature).__name__ == kind]
    if not found:
        raise DataError(f"{path} has no column of kind {kind}, only {', '.join(rows.features)}: {_ADVICE}.")
    return str(found[0])


def _labels(rows: Any, column: str, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels as integers from 0, and the class names: those of the file, or else the sorted values."""
    values, names = rows[column], getattr(rows.features[column], "names", None)
    values = list(values)
    if names is None:
        if not all(isinstance(value, str | int) for value in values):
            raise DataError(f"{where}: the column {column} must contain text or an integer in each row.")
        known = sorted(set(values), key=lambda value: (isinstance(value, str), value))
        values, names = [known.index(value) for value in values], [str(value) for value in known]
    if any(not isinstance(value, int) or not 0 <= value < len(names) for value in values):
        raise DataError(f"{where}: the column {column} must contain labels 0 to {len(names) - 1}.")
    return np.array(values, dtype=np.int64), tuple(map(valid_name, names))


def _undecoded(rows: Any, column: str) -> Iterator[Any]:
    """Yield the values of a column: images as the bytes of their files, to be decoded by nasx."""
    import datasets  # optional dependency

    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    for row in rows.select_columns([column]):
        yield row[column]


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Disable the progress bars of the library."""
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
