"""The mathematics of introspectability: class means, their cosine distances, and the one number made of them.

Everything is numpy float64. The vector of a class is the concatenation of its layers' vectors, and the inner product
of concatenations is the sum of the layers' inner products: so a layer is reduced to its Gram matrix, (n_classes,
n_classes), and the concatenation is the sum of the Gram matrices. No long vector need ever be kept.

A class without samples, or whose vector is zero, has no direction and so no distance to any other: NaN, left out.
Source: Carmichael, Moon, Jacobs, "Learning Debuggable Models Through Multi-Objective NAS", 2023, Eq. 1-3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def class_means(values: ArrayLike, labels: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """The mean of the `values`, (n_samples, n_features), of each class: (n_classes, n_features).

    A class without samples has the zero vector.

    >>> class_means([[1, 0], [3, 2], [5, 5]], [0, 0, 2], n_classes=3).tolist()
    [[2.0, 1.0], [0.0, 0.0], [5.0, 5.0]]
    """
    one_hot = np.eye(n_classes)[np.asarray(labels, dtype=int)]
    return means_from_sums(one_hot.T @ np.asarray(values, dtype=np.float64), one_hot.sum(axis=0))


def means_from_sums(sums: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Class means from class sums, (n_classes, n_features), and class sizes, (n_classes,); zero for an empty class.

    >>> means_from_sums([[4, 2], [0, 0]], [2, 0]).tolist()
    [[2.0, 1.0], [0.0, 0.0]]
    """
    sizes = np.asarray(counts, dtype=np.float64)
    means: NDArray[np.float64] = np.asarray(sums, dtype=np.float64) / np.maximum(sizes, 1)[:, None]
    return means


def gram(means: ArrayLike) -> NDArray[np.float64]:
    """Inner products between the rows of `means`, (n_classes, n_features): (n_classes, n_classes).

    >>> gram([[1, 2], [3, 0]]).tolist()
    [[5.0, 3.0], [3.0, 9.0]]
    """
    vectors = np.asarray(means, dtype=np.float64)
    products: NDArray[np.float64] = vectors @ vectors.T
    return products


def cosine_distances(gram_matrix: ArrayLike) -> NDArray[np.float64]:
    """Cosine distances 1 - cos in [0, 2] from inner products; both (n_classes, n_classes).

    The diagonal is zero. A pair with a zero vector, or with one that is not finite, has no distance: NaN.

    >>> cosine_distances([[4, 0, 2], [0, 9, 3], [2, 3, 4]]).tolist()
    [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    products = np.asarray(gram_matrix, dtype=np.float64)
    squares = np.diag(products)
    norms = np.sqrt(np.where(np.isfinite(squares) & (squares > 0), squares, np.nan))
    with np.errstate(invalid="ignore"):  # infinite products: NaN is the answer wanted
        distances = np.clip(1 - products / norms[:, None] / norms[None, :], 0, 2)
    np.fill_diagonal(distances, 0)
    return distances


def mean_distances(layers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Each pair's distance averaged over the layers that have one; NaN where none has. All (n_classes, n_classes).

    >>> mean_distances([np.array([[0, 1.0], [1, 0]]), np.array([[0, 0.5], [0.5, 0]])]).tolist()
    [[0.0, 0.75], [0.75, 0.0]]
    """
    stack = np.stack(layers)
    present = np.isfinite(stack)
    counts = present.sum(axis=0)
    totals = np.where(present, stack, 0).sum(axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def introspectability(distances: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean of `distances`, (n_classes, n_classes), over all pairs of classes that have one (the paper's Eq. 1).

    `weights`, a symmetric (n_classes, n_classes) matrix of class similarities >= 0, multiplies each pair's distance;
    the result is divided by the mean weight of the same pairs, so that its range stays that of the distances (Eq. 2-3).
    Raises ValueError where no pair has a distance, or none with a distance has a weight.

    >>> d = [[0, 0.2, 0.4], [0.2, 0, 0.9], [0.4, 0.9, 0]]
    >>> round(introspectability(d), 12)
    0.5
    >>> round(introspectability(d, weights=[[1, 3, 0], [3, 1, 1], [0, 1, 1]]), 12)  # (3 * 0.2 + 1 * 0.9) / 4
    0.375
    """
    matrix = np.asarray(distances, dtype=np.float64)
    pairs = np.triu_indices(len(matrix), k=1)
    values = matrix[pairs]
    importance = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)[pairs]
    finite = np.isfinite(values)
    total = importance[finite].sum()
    if not total > 0:
        raise ValueError("no pair of classes has a distance")
    return float((importance[finite] * values[finite]).sum() / total)


def bin_targets(targets: ArrayLike, n_bins: int) -> NDArray[np.int64]:
    """The classes of a regression: `targets`, (n,), in n_bins bins that hold about equally many, numbered from 0.

    Equal targets share a bin, so that bins may stay empty. The paper mentions binned targets, but not how they are cut.

    >>> bin_targets([0.1, 5.0, 0.2, 7.0, 0.3, 9.0], n_bins=3).tolist()
    [0, 1, 0, 2, 1, 2]
    """
    values = np.asarray(targets, dtype=np.float64)
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, values, side="right").astype(np.int64)
