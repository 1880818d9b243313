"""Users' images: a directory with one folder per class, resized once and cached as one array.

The directory contains either the parts::

    root/train/cat/a.jpg   root/train/dog/b.png   root/test/cat/c.jpg   root/val/...

or only the classes; then a share of each class, drawn by seed, becomes the test set::

    root/cat/a.jpg         root/dog/b.png
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nasx.config.naming import place_title
from nasx.config.settings import settings
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, open_rows, stays_on_disk, write_rows
from nasx.data.download import cache_folder
from nasx.data.files import Seed, TestFraction, existing_folder, expand
from nasx.data.image_files import ImageSize, is_image_file, read_image
from nasx.data.splits import hold_out
from nasx.errors import DataError
from nasx.escaping import valid_name

_AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)


@dataclass(frozen=True)
class LabeledFiles:
    """Image files of a dataset, not yet read."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]  # one per path: an index into class_names
    class_names: tuple[str, ...]  # names of the folders, sorted


@settings
class ImageFolder:
    """Directory of class folders with images of any format, read as square images of one size."""

    root: str | None = None  # the directory
    image_size: ImageSize = 32  # pixels per side: images are cropped to their central square and resized
    grayscale: bool = False  # one channel instead of three
    test_fraction: TestFraction = 0.2  # share of the test set, if the directory has no folders train and test
    seed: Seed = 0  # of that split
    memory_map: bool | None = None  # read batches from disk; None: if images take over a quarter of the memory
    cache: str | None = None  # directory for the resized images; None: the user's cache directory
    augmentation: Augmentation = _AUGMENTATION

    places: ClassVar[tuple[str, ...]] = ("root", "memory_map", "cache")

    @property
    def name(self) -> str:
        """Name of the folder, as the user knows it."""
        return place_title(self.root, "folder")

    def train(self) -> LabeledImages:
        return self._read(self.train_files())

    def test(self) -> LabeledImages:
        return self._read(self.test_files())

    def train_files(self) -> LabeledFiles:
        """Return the images of train/ and of val/, if it exists: a search draws its own validation images."""
        root = self._root()
        if not (root / "train").is_dir():
            return self._held_out(root)[0]
        train = list_files(root / "train")
        if not (root / "val").is_dir():
            return train
        more = list_files(root / "val", class_names=train.class_names)
        return LabeledFiles(train.paths + more.paths, train.labels + more.labels, train.class_names)

    def test_files(self) -> LabeledFiles:
        """Return the images of test/."""
        root = self._root()
        if not (root / "train").is_dir():
            return self._held_out(root)[1]
        if not (root / "test").is_dir():
            raise DataError(f"{root / 'test'} is missing: a directory with a folder train needs a folder test.")
        return list_files(root / "test", class_names=list_files(root / "train").class_names)

    def _held_out(self, root: Path) -> tuple[LabeledFiles, LabeledFiles]:
        files = list_files(root)
        names = [path.relative_to(root).as_posix() for path in files.paths]
        labels = np.array(files.labels)
        indices = hold_out(labels, files.class_names, fraction=self.test_fraction, seed=self.seed, files=names)
        train, test = (
            LabeledFiles(tuple(files.paths[i] for i in part), tuple(files.labels[i] for i in part), files.class_names)
            for part in indices
        )
        return train, test

    def _root(self) -> Path:
        if not self.root:
            raise DataError("A folder of images needs its path: set dataset.root=DIR, with one folder per class.")
        return existing_folder(self.root, "a folder of images needs dataset.root=DIR, with one folder per class")

    def _read(self, files: LabeledFiles) -> LabeledImages:
        channels = 1 if self.grayscale else 3
        folder = expand(self.cache) if self.cache else cache_folder()
        images = cached_images(files.paths, size=self.image_size, channels=channels, folder=folder)
        labels = np.array(files.labels, dtype=np.int64)
        on_disk = stays_on_disk(self.memory_map, images.nbytes)
        root = self._root()
        names = tuple(valid_name(path.relative_to(root).as_posix()) for path in files.paths)
        return LabeledImages(images, labels, files.class_names, on_disk=on_disk, files=names)

    def path(self, file: str) -> Path:
        """Return the path of an image from its name in `LabeledImages.files`."""
        return self._root() / file


def list_files(folder: Path, *, class_names: Sequence[str] | None = None) -> LabeledFiles:
    """Return all images in the class folders of `folder`, at any depth, sorted by name.

    Files of other types and hidden folders are ignored.

    Args:
        folder: contains one folder per class.
        class_names: the expected classes; None: those found.

    Raises:
        DataError: if there are fewer than two classes, an unexpected class, or a class without images.
    """
    found = _class_folders(folder)
    names = tuple(found if class_names is None else class_names)
    if len(names) < 2:
        raise DataError(f"{folder} must contain one folder for each of at least two classes, got {len(names)}.")
    if unknown := [place for name, place in found.items() if name not in names]:
        raise DataError(f"unexpected class folder {unknown[0]}. Expected: {_few(names)}.")
    paths: list[Path] = []
    labels: list[int] = []
    for name, place in found.items():
        images = sorted(path for path in place.rglob("*") if is_image_file(path) and path.is_file())
        if not images:
            raise DataError(f"{place} contains no images: add some, or remove it.")
        paths += images
        labels += [names.index(name)] * len(images)
    if not paths:
        raise DataError(f"{folder} contains no images.")
    return LabeledFiles(tuple(paths), tuple(labels), names)


def _class_folders(folder: Path) -> dict[str, Path]:
    r"""Return name of the class -> its folder, sorted by name. In a name that is not UTF-8, other bytes are \xNN."""
    try:
        places = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error
    found = {valid_name(place.name): place for place in places}
    if len(found) < len(places):
        twice = next(place for place in places if found[valid_name(place.name)] != place)
        raise DataError(f"{folder} has two class folders named {valid_name(twice.name)}: rename one of them.")
    return dict(sorted(found.items()))


def cached_images(paths: Sequence[Path], *, size: int, channels: int, folder: Path) -> NDArray[np.uint8]:
    """Return images as one array, uint8 (n, channels, size, size), mapped from a cache file.

    The array may be larger than memory. It is written again if the path, the size in bytes or the modification time of
    any image differs.

    Args:
        paths: of n images.
        size: pixels per side.
        channels: 1 (gray) or 3 (red, green, blue).
        folder: of the cache.

    Raises:
        DataError: if an image cannot be read.
        ResourceError: if the cache cannot be written.
    """
    shape = (len(paths), channels, size, size)
    target = folder / f"images-{_fingerprint(paths, shape)}.npy"
    try:
        return open_rows(target)
    except (OSError, ValueError, EOFError):  # absent, or truncated: write it again
        pass
    return write_rows(target, shape, (read_image(path, size=size, channels=channels) for path in paths))


def _fingerprint(paths: Sequence[Path], shape: tuple[int, ...]) -> str:
    facts = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([shape, facts]).encode()).hexdigest()[:20]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
