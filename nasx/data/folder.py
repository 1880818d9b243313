"""A user's own images: a directory with one folder a class, read once, resized and kept as one array.

Either the parts are there::

    root/train/cat/a.jpg   root/train/dog/b.png   root/test/cat/c.jpg   root/val/...

or the classes alone, and a share of each is kept apart as the test, by seed::

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

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, open_rows, stays_on_disk, write_rows
from nasx.data.download import cache_folder
from nasx.data.files import existing_folder, expand
from nasx.data.image_files import check_picture_settings, is_image_file, read_image
from nasx.data.splits import hold_out
from nasx.errors import DataError

_AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)


@dataclass(frozen=True)
class LabeledFiles:
    """The pictures of a dataset before they are read."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]  # one a path: an index into class_names
    class_names: tuple[str, ...]  # names of the folders, sorted


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A directory of class folders, of any picture format, as square images of one size."""

    root: str | None = None  # the directory
    image_size: int = 32  # pixels a side: pictures are cut to their central square and resized
    grayscale: bool = False  # one channel in place of three
    test_fraction: float = 0.2  # share kept apart as the test, where the directory has no parts of its own
    seed: int = 0  # of that split
    memory_map: bool | None = None  # stream batches from disk; None: where images take over a quarter of memory
    cache: str | None = None  # directory for the resized images; None: the user's cache directory
    augmentation: Augmentation = _AUGMENTATION

    name: ClassVar[str] = "folder"

    def __post_init__(self) -> None:
        check_picture_settings(self.image_size, self.test_fraction, self.seed)

    def train(self) -> LabeledImages:
        return self._read(self.train_files())

    def test(self) -> LabeledImages:
        return self._read(self.test_files())

    def train_files(self) -> LabeledFiles:
        """The pictures of train/, and of val/ where there is one: a search cuts its own validation images."""
        root = self._root()
        if not (root / "train").is_dir():
            return self._held_out(root)[0]
        train = list_files(root / "train")
        if not (root / "val").is_dir():
            return train
        more = list_files(root / "val", class_names=train.class_names)
        return LabeledFiles(train.paths + more.paths, train.labels + more.labels, train.class_names)

    def test_files(self) -> LabeledFiles:
        root = self._root()
        if not (root / "train").is_dir():
            return self._held_out(root)[1]
        if not (root / "test").is_dir():
            raise DataError(
                f"{root / 'test'} is missing: where there is a folder train, the test images lie beside it."
            )
        return list_files(root / "test", class_names=list_files(root / "train").class_names)

    def _held_out(self, root: Path) -> tuple[LabeledFiles, LabeledFiles]:
        files = list_files(root)
        indices = hold_out(np.array(files.labels), files.class_names, fraction=self.test_fraction, seed=self.seed)
        train, test = (
            LabeledFiles(tuple(files.paths[i] for i in part), tuple(files.labels[i] for i in part), files.class_names)
            for part in indices
        )
        return train, test

    def _root(self) -> Path:
        if not self.root:
            raise DataError("A folder of images needs its place: give dataset.root=DIR, with one folder a class.")
        return existing_folder(self.root, "a folder of images needs dataset.root=DIR, with one folder a class")

    def _read(self, files: LabeledFiles) -> LabeledImages:
        channels = 1 if self.grayscale else 3
        folder = cache_folder() if self.cache is None else expand(self.cache)
        images = cached_images(files.paths, size=self.image_size, channels=channels, folder=folder)
        labels = np.array(files.labels, dtype=np.int64)
        on_disk = stays_on_disk(self.memory_map, images.nbytes)
        return LabeledImages(images, labels, files.class_names, on_disk=on_disk)


def list_files(folder: Path, *, class_names: Sequence[str] | None = None) -> LabeledFiles:
    """All pictures in the class folders of `folder`, at any depth, in the order of their names.

    `class_names`, where given, are all that may occur. Other files and hidden folders are passed over.
    Raises DataError where there are fewer than two classes, a class without pictures or of another name.
    """
    try:
        found = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error
    names = tuple(found if class_names is None else class_names)
    if len(names) < 2:
        raise DataError(f"{folder} must hold one folder for each of at least two classes, got {len(names)}.")
    if unknown := [name for name in found if name not in names]:
        raise DataError(f"{folder / unknown[0]} is of no class of the training images, which are {_few(names)}.")
    paths: list[Path] = []
    labels: list[int] = []
    for name in found:
        pictures = sorted(path for path in (folder / name).rglob("*") if is_image_file(path) and path.is_file())
        if not pictures:
            raise DataError(f"{folder / name} holds no pictures: fill it or remove it.")
        paths += pictures
        labels += [names.index(name)] * len(pictures)
    if not paths:
        raise DataError(f"{folder} holds no pictures.")
    return LabeledFiles(tuple(paths), tuple(labels), names)


def cached_images(paths: Sequence[Path], *, size: int, channels: int, folder: Path) -> NDArray[np.uint8]:
    """The pictures as one array (n, channels, size, size), from `folder` where they have been read before.

    The array is mapped from disk, not loaded: it may be larger than memory. It is made anew whenever a picture's
    path, size in bytes or time of change differs. Raises DataError for a picture that cannot be read, ResourceError
    where the cache cannot be written.
    """
    shape = (len(paths), channels, size, size)
    target = folder / f"images-{_fingerprint(paths, shape)}.npy"
    try:
        return open_rows(target)
    except (OSError, ValueError, EOFError):  # not there yet, or cut short from outside: made anew
        pass
    return write_rows(target, shape, (read_image(path, size=size, channels=channels) for path in paths))


def _fingerprint(paths: Sequence[Path], shape: tuple[int, ...]) -> str:
    facts = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([shape, facts]).encode()).hexdigest()[:20]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
