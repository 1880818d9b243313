"""Check of a dataset before training: files, counts, balance, damage, contradictions, repeated and leaked images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nasx.data.corrected import CorrectedDataset, apply
from nasx.data.corrections import Corrections, in_words
from nasx.data.dataset import LabeledImages
from nasx.data.file_facts import FileFacts
from nasx.data.folder import ImageFolder, LabeledFiles
from nasx.data.image_files import read_image
from nasx.data.layout import skipped_files
from nasx.errors import DataError
from nasx.protocols import Dataset

N_SAMPLES: Final = 10  # images kept of each class
Progress = Callable[[int, int], None]  # images checked so far, number of images


@dataclass(frozen=True)
class Pair:
    """Two images that are equal, pixel for pixel."""

    first: str  # file or position
    first_class: str
    second: str
    second_class: str

    @property
    def is_contradiction(self) -> bool:
        """Whether the images are of different classes."""
        return self.first_class != self.second_class


@dataclass(frozen=True)
class PartReport:
    """Findings in the training or the test part."""

    class_names: tuple[str, ...]  # empty if the part cannot be read
    counts: tuple[int, ...]  # readable images of each class
    shape: tuple[int, int, int] | None  # (channels, height, width); None: no readable image
    damaged: tuple[str, ...]  # one sentence for each file that cannot be read
    pairs: tuple[Pair, ...] = ()  # each image that equals an earlier one of the part, with that one
    samples: tuple[tuple[NDArray[np.uint8], ...], ...] = ()  # at most N_SAMPLES readable images of each class

    @property
    def n_images(self) -> int:
        return sum(self.counts)

    @property
    def repeated(self) -> int:
        """Number of images that equal an earlier image of the part, pixel for pixel."""
        return len(self.pairs)

    @property
    def contradictions(self) -> tuple[Pair, ...]:
        """Equal images of different classes."""
        return tuple(pair for pair in self.pairs if pair.is_contradiction)

    @property
    def imbalance(self) -> float:
        """Ratio of the largest class to the smallest: 1 is balanced, infinity if a class has no images."""
        if not self.n_images:
            return 1.0
        return max(self.counts) / min(self.counts) if min(self.counts) else float("inf")

    def as_record(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "images": self.n_images,
            "classes": dict(zip(self.class_names, self.counts, strict=True)),
            "imbalance": self.imbalance,
            "shape": self.shape,
            "damaged": list(self.damaged),
            "repeated": [vars(pair) for pair in self.pairs],
            "contradictions": [vars(pair) for pair in self.contradictions],
        }


@dataclass(frozen=True)
class DataReport:
    """Findings in a dataset."""

    name: str
    train: PartReport
    test: PartReport
    leaks: tuple[Pair, ...]  # each test image that equals a training image, with that one first
    files: FolderReport | None = None  # None: the images are not files of a folder
    corrections: str = ""  # how many labels are corrected, in words; "": none

    @property
    def leaked(self) -> int:
        """Number of test images that equal a training image, pixel for pixel."""
        return len(self.leaks)

    @property
    def contradictions(self) -> tuple[Pair, ...]:
        """Equal images of different classes, in one part or in both."""
        found = (*self.train.contradictions, *self.test.contradictions)
        return (*found, *(pair for pair in self.leaks if pair.is_contradiction))

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences on what is wrong and what to do; (): the dataset is sound."""
        found = list(self.files.problems) if self.files else []
        skips = self.files is not None and self.files.skip_damaged
        for name, part in (("training", self.train), ("test", self.test)):
            if not part.counts:
                found.append(f"The {name} images cannot be read: {' '.join(part.damaged)}")
            elif part.damaged and not skips:
                way = "replace or remove them" + (", or set dataset.skip_damaged=true" if self.files else "")
                found.append(f"{len(part.damaged):,} {name} images are damaged: {way}.")
            for label, n in zip(part.class_names, part.counts, strict=True):
                if not n and not (part.counts and name == "test" and not self.test.n_images):
                    found.append(f"The class {label} has no {name} images: add some, or remove the class.")
        if n := len(self.contradictions):
            found.append(f"{n:,} images are equal but in different classes: correct the class, or remove them.")
        if self.leaked:
            found.append(f"{self.leaked:,} test images equal a training image: remove them from one of the parts.")
        return tuple(found)

    @property
    def is_sound(self) -> bool:
        """True if there are no problems."""
        return not self.problems

    def as_record(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "dataset": self.name,
            "sound": self.is_sound,
            "problems": list(self.problems),
            "corrections": self.corrections or None,
            "files": self.files.as_record() if self.files else None,
            "train": self.train.as_record(),
            "test": self.test.as_record(),
            "leaks": [vars(pair) for pair in self.leaks],
        }


@dataclass(frozen=True)
class FolderReport:
    """Findings about the files of a folder."""

    layout: str  # in words
    ignored: tuple[str, ...]  # files and folders next to those that are read
    skipped: tuple[str, ...]  # sentences on files that are no images
    facts: FileFacts
    value_range: tuple[float, float] | None  # values found in files with more than 8 bits; None: no such files
    levels: int  # gray levels of these files after the conversion to 8 bits
    skip_damaged: bool
    problems: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "layout": self.layout,
            "ignored": list(self.ignored),
            "skipped": list(self.skipped),
            "sizes": self.facts.sizes,
            "modes": dict(self.facts.modes),
            "conversions": dict(self.facts.conversions),
            "value_range": self.value_range,
            "gray_levels": self.levels,
        }


def check_dataset(dataset: Dataset, progress: Progress | None = None) -> DataReport:
    """Read both parts of a dataset and report on them.

    Reports every damaged file of an image folder, but only the first one of other datasets.

    Args:
        dataset: its files are read, not the cache.
        progress: called after each file of an image folder.
    """
    corrections = None
    if isinstance(dataset, CorrectedDataset):
        corrections, dataset = dataset.corrections, dataset.original
    correct = _Corrector(dataset, corrections)
    if isinstance(dataset, ImageFolder):
        report = _check_folder(dataset, correct, progress or (lambda done, total: None))
    else:
        report = _check_images(dataset, correct)
    return replace(report, corrections=correct.in_words())


def _check_images(dataset: Dataset, correct: _Corrector) -> DataReport:
    train, test = _Part(), _Part()
    for part, read, kind in ((train, dataset.train, "training image "), (test, dataset.test, "test image ")):
        try:
            images = read()
        except DataError as error:
            part.damaged.append(str(error))
            continue
        part.class_names = images.class_names
        labels = correct(images, is_test=part is test)
        for i, image in enumerate(images.images):
            if i in labels:
                part.add(image, labels[i], f"{'' if images.files else kind}{images.image_name(i)}")
    return DataReport(dataset.name, train.report(), test.report(), train.leaks(test))


class _Corrector:
    """Applies corrections to both parts, and counts them."""

    def __init__(self, dataset: Dataset, corrections: Corrections | None) -> None:
        self.dataset, self.corrections = dataset, corrections
        self.facts: dict[str, Any] = {}

    def __call__(self, images: LabeledImages, *, is_test: bool) -> dict[int, int]:
        """Return the label of each image that is not dropped, by index. Raises DataError for impossible corrections."""
        if self.corrections is None:
            return dict(enumerate(images.labels.tolist()))
        found = apply(self.corrections, self.dataset, images, test=is_test)
        for name, value in found.content.facts.items():
            if name in ("relabeled", "dropped", "confirmed"):
                self.facts[name] = self.facts.get(name, 0) + value
            elif name == "file":
                self.facts[name] = value
        return {int(i): int(found.labels[i]) for i in np.flatnonzero(~found.is_dropped)}

    def in_words(self) -> str:
        return in_words(self.facts)


def _check_folder(dataset: ImageFolder, correct: _Corrector, progress: Progress) -> DataReport:
    parts = (_Part(), _Part())
    listed: list[LabeledFiles | None] = []
    for part, files in zip(parts, (dataset.train_files, dataset.test_files), strict=True):
        try:
            listed.append(files())
            part.class_names = listed[-1].class_names  # type: ignore[union-attr]
        except DataError as error:
            listed.append(None)
            part.damaged.append(str(error))
    facts, levels = FileFacts(), np.zeros(256, dtype=bool)
    total, done = sum(len(files.paths) for files in listed if files), 0
    for part, found in zip(parts, listed, strict=True):
        labels = correct(_unread(dataset, found), is_test=part is parts[1]) if found else {}
        for path, label in ((found.paths[i], label) for i, label in labels.items()) if found else ():
            wide = facts.add(path, 1 if dataset.grayscale else 3)
            try:
                image = _read(dataset, path)
            except DataError as error:
                part.damaged.append(str(error))
            else:
                part.add(image, label, dataset.file_name(path))
                if wide:
                    levels[np.unique(image)] = True
            done += 1
            progress(done, total)
    train, test = parts
    files_report = _folder_report(dataset, facts, int(levels.sum()), train) if any(listed) else None
    return DataReport(dataset.name, train.report(), test.report(), train.leaks(test), files_report)


def _unread(dataset: ImageFolder, files: LabeledFiles) -> LabeledImages:
    """Return labels and names of files without their pixels."""
    names = tuple(dataset.file_name(path) for path in files.paths)
    no_pixels = np.empty((len(names), 1, 0, 0), np.uint8)
    return LabeledImages(no_pixels, np.array(files.labels, dtype=np.int64), files.class_names, files=names)


def _read(dataset: ImageFolder, path: Any) -> NDArray[np.uint8]:
    channels = 1 if dataset.grayscale else 3
    return read_image(
        path,
        size=dataset.image_size,
        channels=channels,
        value_range=dataset.value_range,
        interpolation=dataset.interpolation,
    )


def _folder_report(dataset: ImageFolder, facts: FileFacts, levels: int, train: _Part) -> FolderReport:
    layout, paths, problems = dataset.layout, dataset.all_paths(), []
    values = dataset.values(paths)
    try:
        dataset.check_values(paths)
    except DataError as error:
        problems.append(str(error))
    if layout.validation is not None:
        folder = f"{dataset.file_name(layout.validation)}/"
        crossing = [pair for pair in train.pairs if pair.first.startswith(folder) != pair.second.startswith(folder)]
        if crossing:
            problems.append(
                f"{len(crossing):,} images of {folder} equal a training image: remove them from one of the parts."
            )
    return FolderReport(
        layout=layout.describe(),
        ignored=layout.ignored,
        skipped=tuple(skipped_files(layout).describe()),
        facts=facts,
        value_range=(values.low, values.high) if values.n_files else None,
        levels=levels,
        skip_damaged=dataset.skip_damaged,
        problems=tuple(problems),
    )


@dataclass
class _Part:
    """Collects the findings in a part."""

    class_names: tuple[str, ...] = ()
    damaged: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    seen: dict[bytes, list[tuple[str, int]]] = field(default_factory=dict)  # SHA-256 of the pixels -> name, label
    counts: dict[int, int] = field(default_factory=dict)
    samples: dict[int, list[NDArray[np.uint8]]] = field(default_factory=dict)
    shape: tuple[int, int, int] | None = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, image: NDArray[np.uint8], label: int, name: str) -> None:
        """Add an image that can be read."""
        self.shape = (image.shape[0], image.shape[1], image.shape[2])
        self.counts[label] = self.counts.get(label, 0) + 1
        kept = self.samples.setdefault(label, [])
        if len(kept) < N_SAMPLES:
            kept.append(np.array(image))
        elif (place := self.rng.integers(self.counts[label])) < N_SAMPLES:  # reservoir sampling
            kept[place] = np.array(image)
        same = self.seen.setdefault(hashlib.sha256(image.tobytes()).digest(), [])
        if same:
            self.pairs.append(self._pair(_rival(same, label), (name, label), self.class_names))
        same.append((name, label))

    def leaks(self, test: _Part) -> tuple[Pair, ...]:
        """Return the test images that equal an image of this part."""
        return tuple(_leaks(self, test))

    def _pair(self, first: tuple[str, int], second: tuple[str, int], names: Sequence[str]) -> Pair:
        return Pair(first[0], self.class_names[first[1]], second[0], names[second[1]])

    def report(self) -> PartReport:
        labels = range(len(self.class_names))
        counts = tuple(self.counts.get(label, 0) for label in labels)
        samples = tuple(tuple(self.samples.get(label, ())) for label in labels)
        return PartReport(self.class_names, counts, self.shape, tuple(self.damaged), tuple(self.pairs), samples)


def _leaks(train: _Part, test: _Part) -> Iterator[Pair]:
    for digest, images in test.seen.items():
        for image in images:
            if same := train.seen.get(digest):
                yield train._pair(_rival(same, image[1]), image, test.class_names)


def _rival(same: Sequence[tuple[str, int]], label: int) -> tuple[str, int]:
    """Return the first of equal images that has another label, or else the first."""
    return next((image for image in same if image[1] != label), same[0])
