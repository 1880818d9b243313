"""Pairs of classes: how far apart a network holds them, how often it confuses them, and from which layer on they part.

Plain arrays in, records out. Distances are symmetric, (n_classes, n_classes); a pair without a distance is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasx.diagnostics.correlation import correlations


@dataclass(frozen=True, eq=False)
class ClassPair:
    """Two classes as one network sees them."""

    first: int
    second: int  # first < second
    distance: float  # cosine distance; NaN: none
    first_as_second: int  # images of `first` that are taken for `second`
    second_as_first: int
    by_layer: Mapping[str, float]  # layer -> distance at that layer, from input to output

    @property
    def confusions(self) -> int:
        """Images of either that are taken for the other."""
        return self.first_as_second + self.second_as_first


def class_pairs(
    distances: NDArray[np.float64], confusion: NDArray[np.int64], by_layer: Mapping[str, NDArray[np.float64]]
) -> list[ClassPair]:
    """All pairs of classes, the closest first; those without a distance last.

    `confusion`, (n_classes, n_classes), counts images by true class (row) and predicted class (column); `by_layer` maps
    a layer to the distances there.
    """
    pairs = [
        ClassPair(
            first=a,
            second=b,
            distance=float(distances[a, b]),
            first_as_second=int(confusion[a, b]),
            second_as_first=int(confusion[b, a]),
            by_layer={layer: float(matrix[a, b]) for layer, matrix in by_layer.items()},
        )
        for a, b in combinations(range(len(distances)), 2)
    ]
    return sorted(pairs, key=lambda p: (np.isnan(p.distance), p.distance))


def most_confused(pairs: Sequence[ClassPair], n: int) -> list[ClassPair]:
    """The `n` pairs that are confused most often, those never confused left out; of equals the closest first."""
    return sorted((p for p in pairs if p.confusions), key=lambda p: -p.confusions)[:n]


def separated_at(pair: ClassPair, threshold: float) -> str | None:
    """The first layer at which the pair is farther apart than `threshold`; None where it never is.

    >>> pair = ClassPair(0, 1, 0.4, 0, 0, {"stem": 0.1, "stage1": 0.5, "stage2": 0.6})
    >>> separated_at(pair, 0.45), separated_at(pair, 0.7)
    ('stage1', None)
    """
    return next((layer for layer, distance in pair.by_layer.items() if distance > threshold), None)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """How many images of each class (row) are taken for each class (column): (n_classes, n_classes).

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], n_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(predicted)), 1)
    return counts


def folded_confusion(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often two classes are taken for each other, either way: C + C^T, (n_classes, n_classes).

    >>> folded_confusion(np.array([[8, 2], [1, 9]])).tolist()
    [[16, 3], [3, 18]]
    """
    return confusion + confusion.T


def closeness_and_confusion(
    distances: NDArray[np.float64], confusion: NDArray[np.int64]
) -> tuple[float | None, float | None]:
    """(Spearman, Pearson) correlation over pairs of classes: is the closer pair the more often confused one?

    Of the negated distances with the folded confusion matrix; pairs without a distance are left out. None where there
    is nothing to correlate: no confusion at all, or all pairs confused or apart alike.
    """
    pairs = np.triu_indices(len(distances), k=1)
    apart, confused = distances[pairs], folded_confusion(confusion)[pairs]
    known = np.isfinite(apart)
    return correlations(-apart[known], confused[known])
