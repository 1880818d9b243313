"""Users' images: a directory with one folder per class, resized once and cached as one array.

The directory contains either the parts, under these names or their synonyms in any case (see `layout`)::

    root/train/cat/a.jpg   root/train/dog/b.png   root/test/cat/c.jpg   root/val/...

or only the classes; then a share of each class, drawn by seed, becomes the test set::

    root/cat/a.jpg         root/dog/b.png
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nasx.config.naming import place_title
from nasx.config.settings import settings
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, open_rows, stays_on_disk, write_rows
from nasx.data.decoding import VERSION, Interpolation
from nasx.data.download import cache_folder
from nasx.data.files import Seed, TestFraction, existing_folder, expand
from nasx.data.image_files import ImageSize, read_image
from nasx.data.layout import Layout, find_layout, skipped_files
from nasx.data.listing import children, image_files
from nasx.data.splits import hold_out
from nasx.data.value_range import ValueRangeSetting, Values, check_values, may_be_wide, survey_values
from nasx.errors import DataError
from nasx.escaping import printable, valid_name
from nasx.files import write_atomically

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
    value_range: ValueRangeSetting | None = None  # values of more than 8 bits that become black and white; None: as
    # the files declare, or else 0 to 65535; images that use less than a quarter of that are refused
    interpolation: Interpolation = "bicubic"  # with which images are resized
    skip_damaged: bool = False  # leave out files that cannot be read, instead of an error
    test_fraction: TestFraction = 0.2  # share of the test set, if the directory has no folder test
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
        files = self.train_files()
        self.check_values(files.paths)  # never opens a test image
        return self._read(files)

    def test(self) -> LabeledImages:
        files = self.test_files()
        self.check_values(self.all_paths())
        return self._read(files)

    @cached_property
    def layout(self) -> Layout:
        """Folders of the parts. Raises DataError if they are ambiguous or missing."""
        if not self.root:
            raise DataError("A folder of images needs its path: set dataset.root=DIR, with one folder per class.")
        return find_layout(
            existing_folder(self.root, "a folder of images needs dataset.root=DIR, with one folder per class")
        )

    def train_files(self) -> LabeledFiles:
        """Return the images of train/ and of val/, if it exists: a search draws its own validation images."""
        return self._all_train_files() if self.layout.test else self._held_out()[0]

    def test_files(self) -> LabeledFiles:
        """Return the images of test/, or a share of the other images if there is no test/."""
        if self.layout.test is None:
            return self._held_out()[1]
        return list_files(self.layout.test, class_names=list_files(self.layout.train).class_names)

    def path(self, file: str) -> Path:
        """Return the path of an image from its name in `LabeledImages.files`."""
        path = self.layout.root / file
        if path.exists():
            return path
        return self._paths.get(file, path)  # names that are not UTF-8, or in another Unicode form

    def notices(self) -> list[str]:
        """Return facts about the directory that a user should know before a search, one line each."""
        layout, skipped = self.layout, skipped_files(self.layout)
        lines = [] if layout.train == layout.root else [f"Layout: {layout.describe()}."]
        if layout.ignored:
            lines.append(f"Next to the folders that are read, and ignored: {printable(_few(layout.ignored))}.")
        if skipped.n_files:
            lines.append(f"Skipped: {'; '.join(skipped.describe())}.")
        if words := self.values(self.train_files().paths).describe(self.value_range):
            lines.append(f"More than 8 bits: {words}.")
        if damaged := self.damaged_files(self.train_files().paths):
            lines.append(f"Left out: {len(damaged):,} damaged training images, the first {damaged[0]}")
        return lines

    def damaged_files(self, paths: Sequence[Path]) -> list[str]:
        """Return one sentence for each damaged file if these are left out, from the note next to the cache."""
        if not self.skip_damaged:
            return []
        return list(read_damaged(self._note(paths, "damaged")).values())

    def check_values(self, paths: Sequence[Path]) -> None:
        """Check that the values of images with more than 8 bits can be scaled to 8. Raises DataError."""
        check_values(self.values(paths), self.value_range, str(self.layout.root))

    def values(self, paths: Sequence[Path]) -> Values:
        """Return the pixel values of those images that have more than 8 bits."""
        wide = tuple(filter(may_be_wide, paths))
        return survey_values(wide, self._note(wide, "values")) if wide else Values()

    def all_paths(self) -> tuple[Path, ...]:
        """Return the paths of all images; without those of the test part if it cannot be listed."""
        paths = self._all_train_files().paths
        if self.layout.test is not None:
            with suppress(DataError):  # raised when the test part is read
                paths += self.test_files().paths
        return paths

    def _all_train_files(self) -> LabeledFiles:
        """Return the images of train/ and val/, or of the whole directory."""
        train = list_files(self.layout.train)
        if self.layout.validation is None:
            return train
        more = list_files(self.layout.validation, class_names=train.class_names)
        return LabeledFiles(train.paths + more.paths, train.labels + more.labels, train.class_names)

    def _held_out(self) -> tuple[LabeledFiles, LabeledFiles]:
        files = self._all_train_files()
        labels, names = np.array(files.labels), tuple(map(self.file_name, files.paths))
        indices = hold_out(labels, files.class_names, fraction=self.test_fraction, seed=self.seed, files=names)
        train, test = (
            LabeledFiles(tuple(files.paths[i] for i in part), tuple(files.labels[i] for i in part), files.class_names)
            for part in indices
        )
        return train, test

    def _read(self, files: LabeledFiles) -> LabeledImages:
        if self.skip_damaged:
            files = self._without_damaged(files)
        images = cached_images(files.paths, settings=self._decoding, folder=self._cache_folder)
        labels = np.array(files.labels, dtype=np.int64)
        on_disk = stays_on_disk(self.memory_map, images.nbytes)
        names = tuple(map(self.file_name, files.paths))
        return LabeledImages(images, labels, files.class_names, on_disk=on_disk, files=names)

    def file_name(self, path: Path) -> str:
        """Return the name of an image relative to the root, as in `LabeledImages.files`."""
        return valid_name(path.relative_to(self.layout.root).as_posix())

    def _without_damaged(self, files: LabeledFiles) -> LabeledFiles:
        """Return the files that can be read. Decodes them if the cache does not know."""
        note = self._note(files.paths, "damaged")
        damaged = read_damaged(note) if note.exists() else None
        if damaged is None:
            try:
                cached_images(files.paths, settings=self._decoding, folder=self._cache_folder)
                damaged = {}
            except DamagedFilesError as error:
                damaged = dict(error.damaged)
            write_atomically(note, json.dumps(damaged).encode())
        kept = [i for i, path in enumerate(files.paths) if self.file_name(path) not in damaged]
        labels = tuple(files.labels[i] for i in kept)
        if lost := set(files.labels) - set(labels):
            raise DataError(f"All images of {files.class_names[min(lost)]!r} are damaged: replace or remove them.")
        return LabeledFiles(tuple(files.paths[i] for i in kept), labels, files.class_names)

    @property
    def _decoding(self) -> Decoding:
        channels = 1 if self.grayscale else 3
        return Decoding(self.image_size, channels, self.value_range, self.interpolation, self.layout.root)

    @property
    def _cache_folder(self) -> Path:
        return expand(self.cache) if self.cache else cache_folder()

    def _note(self, paths: Sequence[Path], kind: str) -> Path:
        return self._cache_folder / f"{kind}-{_fingerprint(paths, self._decoding)}.json"

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """Name in `LabeledImages.files` -> path, of all images."""
        return {self.file_name(path): path for path in self.all_paths()}


def list_files(folder: Path, *, class_names: Sequence[str] | None = None) -> LabeledFiles:
    """Return all images in the class folders of `folder`, at any depth, sorted by name.

    Files of other types, hidden folders and those of operating systems are ignored.

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
        images = image_files(place)
        if not images:
            raise DataError(f"{place} contains no images: add some, or remove it.")
        paths += images
        labels += [names.index(name)] * len(images)
    if not paths:
        raise DataError(f"{folder} contains no images.")
    return LabeledFiles(tuple(paths), tuple(labels), names)


def _class_folders(folder: Path) -> dict[str, Path]:
    r"""Return name of the class -> its folder, sorted by name. In a name that is not UTF-8, other bytes are \xNN."""
    places = [Path(entry.path) for entry in children(folder) if Path(entry.path).is_dir()]
    found = {valid_name(place.name): place for place in places}
    if len(found) < len(places):
        twice = next(place for place in places if found[valid_name(place.name)] != place)
        raise DataError(f"{folder} has two class folders named {valid_name(twice.name)}: rename one of them.")
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Decoding:
    """Settings that determine the pixels of decoded images."""

    size: int  # pixels per side
    channels: int  # 1 or 3
    value_range: tuple[float, float] | None
    interpolation: Interpolation
    root: Path  # of the dataset, for names in messages; does not change the pixels


class DamagedFilesError(DataError):
    """Raised when files of a folder cannot be read."""

    def __init__(self, damaged: Mapping[str, str], n_files: int) -> None:
        self.damaged = damaged  # name relative to the root -> what is wrong, in one sentence
        first = next(iter(damaged.values()))
        if len(damaged) == 1:
            super().__init__(f"{first} To leave it out: dataset.skip_damaged=true.")
            return
        names = _few(list(damaged))
        super().__init__(
            f"{len(damaged):,} of {n_files:,} images cannot be read: {names}. The first: {first} "
            "To leave them out: dataset.skip_damaged=true."
        )


def cached_images(paths: Sequence[Path], *, settings: Decoding, folder: Path) -> NDArray[np.uint8]:
    """Return images as one array, uint8 (n, channels, size, size), mapped from a cache file.

    The array may be larger than memory. It is written again if the path, the size in bytes or the modification time of
    any image differs, or the version of the decoder.

    Args:
        paths: of n images.
        settings: size, channels, range of values and interpolation.
        folder: of the cache.

    Raises:
        DamagedFilesError: if images cannot be read.
        ResourceError: if the cache cannot be written.
    """
    shape = (len(paths), settings.channels, settings.size, settings.size)
    target = folder / f"images-{_fingerprint(paths, settings)}.npy"
    try:
        return open_rows(target)
    except (OSError, ValueError, EOFError):  # absent, or truncated: write it again
        pass
    return write_rows(target, shape, _decoded(paths, settings))


def _decoded(paths: Sequence[Path], settings: Decoding) -> Iterator[NDArray[np.uint8]]:
    """Yield the images; after the last one, raise DamagedFilesError if any could not be read."""
    damaged: dict[str, str] = {}
    for path in paths:
        try:
            yield read_image(
                path,
                size=settings.size,
                channels=settings.channels,
                value_range=settings.value_range,
                interpolation=settings.interpolation,
            )
        except DataError as error:
            damaged[valid_name(path.relative_to(settings.root).as_posix())] = str(error)
    if damaged:
        raise DamagedFilesError(damaged, len(paths))


def read_damaged(note: Path) -> dict[str, str]:
    """Return the damaged files in a note of the cache: name -> sentence."""
    try:
        return {str(name): str(sentence) for name, sentence in json.loads(note.read_bytes()).items()}
    except (OSError, ValueError, AttributeError):  # absent or damaged
        return {}


def _fingerprint(paths: Sequence[Path], settings: Decoding) -> str:
    facts = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = [VERSION, settings.size, settings.channels, settings.value_range, settings.interpolation, facts]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
