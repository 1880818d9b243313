"""How well a classifier does, class by class: recall, precision and macro error, from its confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasx.diagnostics.calibration import wilson_interval
from nasx.diagnostics.class_pairs import confusion_matrix

FEW: Final = 10  # images: the recall of a class with fewer is marked as uncertain
UNBALANCED: Final = 1.5  # ratio of the largest class to the smallest, from which data are unbalanced


@dataclass(frozen=True, eq=False)
class ClassReport:
    """Confusion matrix of labeled images, and the figures that follow from it."""

    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]  # (n_classes, n_classes) images by true (row) and predicted (column) class

    def __post_init__(self) -> None:
        n = len(self.class_names)
        if self.confusion.shape != (n, n):
            raise ValueError(f"the confusion matrix must be {n} by {n}, got {self.confusion.shape}")

    @property
    def support(self) -> NDArray[np.int64]:
        """Number of images of each class, (n_classes,)."""
        support: NDArray[np.int64] = self.confusion.sum(axis=1)
        return support

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Number of images predicted as each class, (n_classes,)."""
        predicted: NDArray[np.int64] = self.confusion.sum(axis=0)
        return predicted

    @property
    def n_images(self) -> int:
        return int(self.confusion.sum())

    @property
    def n_errors(self) -> int:
        return self.n_images - int(np.trace(self.confusion))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the images of each class that are predicted as it; NaN: the class has no images."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the images predicted as each class that are of it; NaN: nothing is predicted as it."""
        return _ratio(np.diag(self.confusion), self.predicted)

    @property
    def error(self) -> float:
        """Share of the images that are misclassified; NaN without images."""
        return self.n_errors / self.n_images if self.n_images else math.nan

    @property
    def macro_error(self) -> float:
        """Mean of 1 - recall over the classes that have images; NaN without images. 1 - balanced accuracy."""
        found = self.recall[self.support > 0]
        return float(1 - found.mean()) if len(found) else math.nan

    @property
    def is_unbalanced(self) -> bool:
        """Whether macro error and error can differ much: the class sizes do."""
        return is_unbalanced(self.support)

    def recall_interval(self, c: int) -> tuple[float, float]:
        """Return the 95 % confidence interval of the recall of class `c`."""
        return wilson_interval(int(self.confusion[c, c]), int(self.support[c]))

    def worst_first(self) -> list[int]:
        """Return the classes by recall, the lowest first, classes without images last."""
        recall = self.recall
        return sorted(range(len(recall)), key=lambda c: (bool(np.isnan(recall[c])), float(recall[c])))

    def entries(self) -> tuple[tuple[int, int, int], ...]:
        """Return (true class, predicted class, images) for all pairs that occur; `from_entries` is the inverse."""
        return tuple((int(a), int(b), int(self.confusion[a, b])) for a, b in np.argwhere(self.confusion))

    def confusions(self) -> list[tuple[int, int, int]]:
        """Return (true class, predicted class, images) for all pairs that are confused, the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        pairs = [(int(a), int(b), int(wrong[a, b])) for a, b in np.argwhere(wrong)]
        return sorted(pairs, key=lambda pair: -pair[2])


def class_report(labels: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> ClassReport:
    """Return the report of predictions on labeled images.

    Args:
        labels: (n,) true classes.
        predicted: (n,) predicted classes.
        class_names: of all classes.

    >>> report = class_report([0, 0, 0, 1], [0, 0, 1, 1], ["cat", "dog", "ship"])
    >>> report.confusion.tolist(), report.support.tolist()
    ([[2, 1, 0], [0, 1, 0], [0, 0, 0]], [3, 1, 0])
    >>> report.recall.round(3).tolist(), report.precision.tolist()
    ([0.667, 1.0, nan], [1.0, 0.5, nan])
    >>> report.error, round(report.macro_error, 6)  # (1/3 + 0) / 2: ships do not count
    (0.25, 0.166667)
    >>> report.confusions()
    [(0, 1, 1)]
    """
    names = tuple(class_names)
    return ClassReport(names, confusion_matrix(labels, predicted, len(names)))


def from_entries(entries: Iterable[tuple[int, int, int]], class_names: Sequence[str]) -> ClassReport:
    """Return the report of (true class, predicted class, images), summed over equal pairs.

    >>> from_entries([(0, 1, 2), (1, 1, 5), (0, 1, 1)], ["cat", "dog"]).confusion.tolist()
    [[0, 3], [0, 5]]
    """
    confusion = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    for a, b, n in entries:
        confusion[a, b] += n
    return ClassReport(tuple(class_names), confusion)


def is_unbalanced(counts: ArrayLike) -> bool:
    """Return whether the largest class has at least 1.5 times the images of the smallest.

    >>> is_unbalanced([10, 14]), is_unbalanced([10, 15]), is_unbalanced([3, 0]), is_unbalanced([])
    (False, True, True, False)
    """
    sizes = np.asarray(counts)
    return bool(sizes.any()) and bool(sizes.max() >= UNBALANCED * sizes.min())


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return part / whole; NaN where whole is 0."""
    share: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
