"""Class distances inside a network: pairs, confusion, planes, trees, and activity by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from nasx.diagnostics.calibration import correlations
from nasx.introspection.similarity import class_means


@dataclass(frozen=True, eq=False)
class ClassPair:
    """Distance and confusion of two classes in one network."""

    first: int
    second: int  # first < second
    distance: float  # cosine distance; NaN: not defined
    first_as_second: int  # images of `first` that are predicted as `second`
    second_as_first: int
    by_layer: Mapping[str, float]  # layer -> distance at that layer, from input to output

    @property
    def confusions(self) -> int:
        """Return the number of images of either class that are predicted as the other."""
        return self.first_as_second + self.second_as_first


def class_pairs(
    distances: NDArray[np.float64], confusion: NDArray[np.int64], by_layer: Mapping[str, NDArray[np.float64]]
) -> list[ClassPair]:
    """Return all pairs of classes, the closest first, pairs without a distance last.

    Args:
        distances: (n_classes, n_classes).
        confusion: (n_classes, n_classes) images by true class (row) and predicted class (column).
        by_layer: layer -> (n_classes, n_classes) distances at that layer.
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
    """Return the `n` most often confused pairs that are confused at all; of equal ones the closest first."""
    return sorted((p for p in pairs if p.confusions), key=lambda p: -p.confusions)[:n]


def separated_at(pair: ClassPair, threshold: float) -> str | None:
    """Return the first layer at which the distance of a pair exceeds `threshold`; None if there is none.

    >>> pair = ClassPair(0, 1, 0.4, 0, 0, {"stem": 0.1, "stage1": 0.5, "stage2": 0.6})
    >>> separated_at(pair, 0.45), separated_at(pair, 0.7)
    ('stage1', None)
    """
    return next((layer for layer, distance in pair.by_layer.items() if distance > threshold), None)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Return the number of images by true class (row) and predicted class (column), (n_classes, n_classes).

    Args:
        labels: (n,) true classes.
        predicted: (n,) predicted classes.
        n_classes: number of classes.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], n_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return counts


def symmetric_confusion(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often two classes are confused in either direction: C + C^T, (n_classes, n_classes).

    >>> symmetric_confusion(np.array([[8, 2], [1, 9]])).tolist()
    [[16, 3], [3, 18]]
    """
    return confusion + confusion.T


def closeness_and_confusion(
    distances: NDArray[np.float64], confusion: NDArray[np.int64]
) -> tuple[float | None, float | None]:
    """Return the (Spearman, Pearson) correlation over pairs of classes: are closer pairs confused more often?

    It correlates negated distances and the symmetric confusion matrix, without pairs that have no distance. None if
    all distances or all numbers of confusions are equal.
    """
    pairs = np.triu_indices(len(distances), k=1)
    apart, confused = distances[pairs], symmetric_confusion(confusion)[pairs]
    known = np.isfinite(apart)
    return correlations(-apart[known], confused[known])


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Plane in which the class centroids of a layer have the largest variance, with the images projected on it."""

    layer: str
    centroids: NDArray[np.float64]  # (n_classes, 2); NaN: a class without images
    images: NDArray[np.float64]  # (n, 2)
    labels: NDArray[np.int64]  # (n,)
    shown: float  # share of the centroids' variance in this plane


def class_map(layer: str, vectors: ArrayLike, labels: ArrayLike, n_classes: int) -> ClassMap:
    """Return the images and class means in the plane of the first two principal components of the class means.

    The largest coordinate of each axis is positive, so that equal data yield equal figures.

    Args:
        layer: name of the layer.
        vectors: (n, n_features) activations of images.
        labels: (n,) their classes.
        n_classes: number of classes.

    >>> found = class_map("stem", [[0, 0, 1], [4, 0, 1], [0, 2, 1]], [0, 1, 2], n_classes=3)
    >>> round(found.shown, 6), found.centroids.shape
    (1.0, (3, 2))
    """
    rows, given = np.asarray(vectors, dtype=np.float64), np.asarray(labels)
    present = np.bincount(given, minlength=n_classes) > 0
    means = class_means(rows, given, n_classes)[present]
    center = means.mean(axis=0)
    _, lengths, axes = np.linalg.svd(means - center, full_matrices=False)
    plane = np.zeros((2, rows.shape[1]))
    plane[: min(2, len(axes))] = axes[:2]
    plane *= np.sign(plane[np.arange(2), np.abs(plane).argmax(axis=1)] + 1e-300)[:, None]
    variance = lengths**2
    centroids = np.full((n_classes, 2), np.nan)
    centroids[present] = (means - center) @ plane.T
    shown = float(variance[:2].sum() / variance.sum()) if variance.sum() > 0 else 1.0
    return ClassMap(layer, centroids, (rows - center) @ plane.T, given.astype(np.int64), shown)


def class_tree(distances: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the hierarchical clustering of classes by average linkage, as scipy's linkage matrix, (n_classes - 1, 4).

    `distances` (n_classes, n_classes); pairs without a distance have the largest distance. None for fewer than three
    classes, or if no pair has a distance.

    >>> class_tree(np.array([[0, 0.1, 0.8], [0.1, 0, 0.6], [0.8, 0.6, 0]]))[:, :3].tolist()
    [[0.0, 1.0, 0.1], [2.0, 3.0, 0.7]]
    """
    off = ~np.eye(len(distances), dtype=bool)
    if len(distances) < 3 or not np.isfinite(distances[off]).any():
        return None
    filled = np.where(np.isfinite(distances), distances, np.nanmax(distances[off]))
    np.fill_diagonal(filled, 0)
    tree: NDArray[np.float64] = linkage(squareform(filled, checks=False), method="average")
    return tree


def activity_by_block(layers: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """Return the activity of each block by class: block -> (n_classes,), in standard deviations over the classes.

    `layers`: layer -> mean activation of each class, (n_classes,), from input to output. Layers whose names have the
    same first two parts form a block ("stage1.0.operations.2.0" is in "stage1.0"). The activity of a layer with equal
    activations for all classes is 0.

    >>> found = activity_by_block({"stem.0": [1, 3], "stage1.0.a": [0, 2], "stage1.0.b": [5, 5]})
    >>> {block: values.tolist() for block, values in found.items()}
    {'stem.0': [-1.0, 1.0], 'stage1.0': [-0.5, 0.5]}
    """
    blocks: dict[str, list[NDArray[np.float64]]] = {}
    for name, means in layers.items():
        values = np.asarray(means, dtype=np.float64)
        spread = values.std()
        standardized = (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
        blocks.setdefault(".".join(name.split(".")[:2]), []).append(standardized)
    return {block: np.mean(rows, axis=0) for block, rows in blocks.items()}
