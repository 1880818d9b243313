"""A dataset of the Hugging Face hub, or of parquet files of that form on this machine: pictures with a label each.

Needs the extra: pip install nasx[huggingface]. Datasets that bring code of their own are not run: the library has given
that up, and nasx asks for none.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, stays_on_disk, write_rows
from nasx.data.download import cache_folder
from nasx.data.files import expand
from nasx.data.image_files import check_picture_settings, decode_image
from nasx.data.splits import hold_out
from nasx.errors import DataError, ResourceError, did_you_mean

_AUGMENTATION: Final = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)
_ADVICE: Final = "dataset.image_column and dataset.label_column name the columns"


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """Pictures and labels in two columns of a dataset that the library `datasets` reads."""

    path: str | None = None  # a name on the hub, e.g. ylecun/mnist, or a parquet file or a directory of them
    subset: str | None = None  # a part of the dataset by its name, where it has several
    train_split: str = "train"  # name of the split to search on
    test_split: str | None = "test"  # name of the split kept apart; null: a share of the training split
    image_column: str | None = None  # null: the first of pictures
    label_column: str | None = None  # null: the first of class labels
    image_size: int = 32  # pixels a side: pictures are cut to their central square and resized
    grayscale: bool = False  # one channel in place of three
    test_fraction: float = 0.2  # share kept apart as the test, where there is no split for it
    seed: int = 0  # of that split
    memory_map: bool | None = None  # stream batches from disk; None: where images take over a quarter of memory
    cache: str | None = None  # directory for the resized images that stay on disk; None: the user's cache directory
    augmentation: Augmentation = _AUGMENTATION

    name: ClassVar[str] = "huggingface"

    def __post_init__(self) -> None:
        check_picture_settings(self.image_size, self.test_fraction, self.seed)

    def train(self) -> LabeledImages:
        images = self._read(self.train_split)
        return images if self.test_split else images.take(self._halves(images)[0])

    def test(self) -> LabeledImages:
        if self.test_split:
            return self._read(self.test_split)
        images = self._read(self.train_split)
        return images.take(self._halves(images)[1])

    def _halves(self, images: LabeledImages) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return hold_out(images.labels, images.class_names, fraction=self.test_fraction, seed=self.seed)

    def _read(self, split: str) -> LabeledImages:
        rows = self._rows(split)
        images = _column(rows, self.image_column, "Image", "image_column", self.path)
        labels = _column(rows, self.label_column, "ClassLabel", "label_column", self.path)
        numbers, class_names = _labels(rows, labels, f"{self.path}, split {split}")
        if not len(numbers):
            raise DataError(f"{self.path}, split {split}, holds no pictures.")
        channels = 1 if self.grayscale else 3
        shape = (len(numbers), channels, self.image_size, self.image_size)
        where = f"{self.path}, split {split}"
        pictures = (
            self._decoded(value, f"{where}, row {number}", images, channels)
            for number, value in enumerate(_undecoded(rows, images))
        )
        on_disk = stays_on_disk(self.memory_map, math.prod(shape))
        if on_disk:
            folder = cache_folder() if self.cache is None else expand(self.cache)
            pixels = write_rows(folder / f"huggingface-{split}-{rows._fingerprint}.npy", shape, pictures)
        else:
            pixels = np.empty(shape, np.uint8)
            for number, picture in enumerate(pictures):
                pixels[number] = picture
        return LabeledImages(pixels, numbers, class_names, on_disk=on_disk)

    def _decoded(self, value: Any, where: str, column: str, channels: int) -> NDArray[np.uint8]:
        raw = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(raw, bytes):  # a path instead: whoever made the file could name any file of this machine
            raise DataError(f"{where} holds no picture in the column {column}: pictures must be stored as bytes.")
        return decode_image(io.BytesIO(raw), where, size=self.image_size, channels=channels)

    def _rows(self, split: str) -> Any:
        """The split as the library gives it, nothing decoded."""
        if not self.path:
            raise DataError("A dataset of Hugging Face needs its place: give dataset.path=NAME, or a parquet file.")
        try:
            import datasets
        except ImportError as error:
            raise ResourceError("datasets of Hugging Face need a library: pip install nasx[huggingface].") from error
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
            except Exception as error:  # the library and those below it raise whatever they like on a damaged file
                raise DataError(f"{self.path} cannot be read: {_first_line(error)}.") from error
        if split not in found:
            raise self._no_split(split, [str(name) for name in found])
        return found[split]

    def _no_split(self, split: str, known: list[str]) -> DataError:
        hint = "" if split != self.test_split else " Where there is no test split, say dataset.test_split=null."
        return DataError(f"{self.path} has no split {split!r}. {did_you_mean(split, known)}{hint}")


def _local_files(place: Path, split: str, *, is_only: bool) -> list[str]:
    """The parquet files of a split: of a directory those named train.parquet, train-00000-of-00002.parquet, ...

    The library itself goes by words anywhere in a path: in a directory named test-data all files would be test files.
    A single file is the only split there is, whatever its name.
    """
    if place.is_dir():
        name = re.compile(rf"{re.escape(split)}([-_.].*)?\.parquet")
        return sorted(str(path) for path in place.rglob("*.parquet") if name.fullmatch(path.name))
    if not place.is_file():
        raise DataError(f"{place} does not exist: dataset.path names a parquet file, a directory, or one of the hub.")
    return [str(place)] if is_only else []


def _column(rows: Any, given: str | None, kind: str, setting: str, path: str | None) -> str:
    """The column that is named, or the first of that kind of feature."""
    if given is not None:
        if given not in rows.features:
            raise DataError(
                f"{path} has no column {given!r}, which dataset.{setting} names. {did_you_mean(given, rows.features)}"
            )
        return given
    found = [name for name, feature in rows.features.items() if type(feature).__name__ == kind]
    if not found:
        raise DataError(f"{path} has no column of kind {kind}, only {', '.join(rows.features)}: {_ADVICE}.")
    return str(found[0])


def _labels(rows: Any, column: str, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels as numbers from 0, and the names of the classes: the file's own, else the values in their order."""
    values, names = rows[column], getattr(rows.features[column], "names", None)
    values = list(values)
    if names is None:
        if not all(isinstance(value, str | int) for value in values):
            raise DataError(f"{where}: the column {column} must hold a word or a whole number a row.")
        known = sorted(set(values), key=lambda value: (isinstance(value, str), value))
        values, names = [known.index(value) for value in values], [str(value) for value in known]
    if any(not isinstance(value, int) or not 0 <= value < len(names) for value in values):
        raise DataError(f"{where}: the column {column} must hold labels 0 to {len(names) - 1}.")
    return np.array(values, dtype=np.int64), tuple(names)


def _undecoded(rows: Any, column: str) -> Iterator[Any]:
    """The column's values: pictures as the bytes of their files, which we decode with our own care."""
    import datasets

    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    for row in rows.select_columns([column]):
        yield row[column]


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """The library without its progress bars."""
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
