"""Check of a dataset before training: counts, balance, damaged files, repeated and leaked images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasx.data.folder import ImageFolder, LabeledFiles
from nasx.data.image_files import read_image
from nasx.errors import DataError
from nasx.protocols import Dataset


@dataclass(frozen=True)
class PartReport:
    """Findings in the training or the test part."""

    class_names: tuple[str, ...]  # empty if the part cannot be read
    counts: tuple[int, ...]  # readable images of each class
    shape: tuple[int, int, int] | None  # (channels, height, width); None: no readable image
    damaged: tuple[str, ...]  # one sentence for each file that cannot be read
    repeated: int  # images that equal an earlier image of the part, pixel for pixel
    samples: tuple[tuple[NDArray[np.uint8], ...], ...] = ()  # at most N_SAMPLES readable images of each class

    @property
    def n_images(self) -> int:
        return sum(self.counts)

    @property
    def imbalance(self) -> float:
        """Ratio of the largest class to the smallest: 1 is balanced, infinity if a class has no images."""
        if not self.n_images:
            return 1.0
        return max(self.counts) / min(self.counts) if min(self.counts) else float("inf")


@dataclass(frozen=True)
class DataReport:
    """Findings in a dataset."""

    name: str
    train: PartReport
    test: PartReport
    leaked: int  # test images that equal a training image, pixel for pixel

    @property
    def is_sound(self) -> bool:
        """True if every file can be read and both parts have images of every class."""
        parts = (self.train, self.test)
        return all(part.counts and min(part.counts) > 0 and not part.damaged for part in parts)


def check_dataset(dataset: Dataset) -> DataReport:
    """Read both parts of a dataset and report on them.

    Reports every damaged file of an image folder, but only the first one of other datasets.
    """
    if isinstance(dataset, ImageFolder):
        train, train_digests = _check_files(dataset, test=False)
        test, test_digests = _check_files(dataset, test=True)
    else:
        train, train_digests = _check_images(dataset, test=False)
        test, test_digests = _check_images(dataset, test=True)
    leaked = sum(count for digest, count in test_digests.items() if digest in train_digests)
    return DataReport(dataset.name, train, test, leaked)


N_SAMPLES = 10  # images kept of each class

Digests = Counter[bytes]  # SHA-256 of the pixels of an image -> number of images


def _check_images(dataset: Dataset, *, test: bool) -> tuple[PartReport, Digests]:
    try:
        images = dataset.test() if test else dataset.train()
    except DataError as error:
        return _unreadable(error), Counter()
    return _report(images.class_names, zip(images.images, images.labels.tolist(), strict=True), damaged=[])


def _check_files(dataset: ImageFolder, *, test: bool) -> tuple[PartReport, Digests]:
    try:
        files = dataset.test_files() if test else dataset.train_files()
    except DataError as error:
        return _unreadable(error), Counter()
    damaged: list[str] = []
    channels = 1 if dataset.grayscale else 3
    return _report(files.class_names, _readable(files, dataset.image_size, channels, damaged), damaged)


def _readable(
    files: LabeledFiles, size: int, channels: int, damaged: list[str]
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield the images that can be read, with their labels; append the reason for each other one to `damaged`."""
    for path, label in zip(files.paths, files.labels, strict=True):
        try:
            yield read_image(path, size=size, channels=channels), label
        except DataError as error:
            damaged.append(str(error))


def _report(
    class_names: tuple[str, ...], images: Iterable[tuple[NDArray[np.uint8], int]], damaged: list[str]
) -> tuple[PartReport, Digests]:
    counts, digests = [0] * len(class_names), Counter[bytes]()
    samples: list[list[NDArray[np.uint8]]] = [[] for _ in class_names]
    rng = np.random.default_rng(0)
    shape = None
    for image, label in images:
        counts[label] += 1
        if len(samples[label]) < N_SAMPLES:
            samples[label].append(np.array(image))
        elif (place := rng.integers(counts[label])) < N_SAMPLES:  # reservoir sampling: all images are equally likely
            samples[label][place] = np.array(image)
        shape = image.shape
        digests[hashlib.sha256(image.tobytes()).digest()] += 1
    repeated = digests.total() - len(digests)
    return PartReport(class_names, tuple(counts), shape, tuple(damaged), repeated, tuple(map(tuple, samples))), digests


def _unreadable(error: DataError) -> PartReport:
    return PartReport((), (), None, (str(error),), 0)
