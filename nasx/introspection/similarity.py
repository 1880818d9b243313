"""Mathematics of introspectability: class means, their cosine distances, and the score.

All functions compute in numpy float64. The vector of a class is the concatenation of its vectors in each layer. The
inner product of concatenations is the sum of the layers' inner products, so each layer is reduced to its Gram matrix,
(n_classes, n_classes), and no concatenation is ever stored.

A class without samples, or with a zero vector, has no direction. Its distances are NaN and left out of means.
Source: Carmichael, Moon, Jacobs, "Learning Debuggable Models Through Multi-Objective NAS", 2023, Eq. 1-3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def class_means(values: ArrayLike, labels: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Return the mean of each class, (n_classes, n_features); zero for a class without samples.

    Args:
        values: (n_samples, n_features).
        labels: class of each sample, (n_samples,).
        n_classes: number of classes.

    >>> class_means([[1, 0], [3, 2], [5, 5]], [0, 0, 2], n_classes=3).tolist()
    [[2.0, 1.0], [0.0, 0.0], [5.0, 5.0]]
    """
    one_hot = np.eye(n_classes)[np.asarray(labels, dtype=int)]
    return means_from_sums(one_hot.T @ np.asarray(values, dtype=np.float64), one_hot.sum(axis=0))


def means_from_sums(sums: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Return class means from class sums, (n_classes, n_features), and sizes, (n_classes,); zero for an empty class.

    >>> means_from_sums([[4, 2], [0, 0]], [2, 0]).tolist()
    [[2.0, 1.0], [0.0, 0.0]]
    """
    sizes = np.asarray(counts, dtype=np.float64)
    means: NDArray[np.float64] = np.asarray(sums, dtype=np.float64) / np.maximum(sizes, 1)[:, None]
    return means


def gram(means: ArrayLike) -> NDArray[np.float64]:
    """Return the inner products of the rows of `means`, (n_classes, n_features): (n_classes, n_classes).

    >>> gram([[1, 2], [3, 0]]).tolist()
    [[5.0, 3.0], [3.0, 9.0]]
    """
    vectors = np.asarray(means, dtype=np.float64)
    products: NDArray[np.float64] = vectors @ vectors.T
    return products


def cosine_distances(gram_matrix: ArrayLike) -> NDArray[np.float64]:
    """Return the cosine distances 1 - cos in [0, 2] from inner products; both (n_classes, n_classes).

    The diagonal is zero. The distance is NaN if one of the vectors is zero or not finite.

    >>> cosine_distances([[4, 0, 2], [0, 9, 3], [2, 3, 4]]).tolist()
    [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    products = np.asarray(gram_matrix, dtype=np.float64)
    squares = np.diag(products)
    norms = np.sqrt(np.where(np.isfinite(squares) & (squares > 0), squares, np.nan))
    with np.errstate(invalid="ignore"):  # infinite products become NaN as intended
        distances = np.clip(1 - products / norms[:, None] / norms[None, :], 0, 2)
    np.fill_diagonal(distances, 0)
    return distances


def mean_distances(layers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean distance of each pair over the layers that have one, else NaN; all (n_classes, n_classes).

    >>> mean_distances([np.array([[0, 1.0], [1, 0]]), np.array([[0, 0.5], [0.5, 0]])]).tolist()
    [[0.0, 0.75], [0.75, 0.0]]
    """
    stack = np.stack(layers)
    present = np.isfinite(stack)
    counts = present.sum(axis=0)
    totals = np.where(present, stack, 0).sum(axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def introspectability(distances: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean of `distances`, (n_classes, n_classes), over the pairs of classes that have one (Eq. 1).

    `weights`, a symmetric (n_classes, n_classes) matrix of class similarities >= 0, multiplies the distances. The
    result is divided by the mean weight of the same pairs, so that its range is that of the distances (Eq. 2-3).
    Raises ValueError if no pair has both a distance and a positive weight.

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
    """Return the bin of each target of a regression, (n,) in [0, n_bins); bins contain about equally many targets.

    Equal targets are in the same bin, so bins may be empty. The paper mentions binned targets, but not their limits.

    >>> bin_targets([0.1, 5.0, 0.2, 7.0, 0.3, 9.0], n_bins=3).tolist()
    [0, 1, 0, 2, 1, 2]
    """
    values = np.asarray(targets, dtype=np.float64)
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, values, side="right").astype(np.int64)
