"""Suspicion of label errors by distance and by loss, and evaluation of rankings on planted label errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score
from torch import nn

from nasx.backbones.features import on_features
from nasx.config.settings import OpenShare, check_argument
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import SearchData
from nasx.diagnostics.centroids import Centroids, Comparison, class_centroids, compare, leave_one_out_distances
from nasx.diagnostics.confident_learning import relative_confidence
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

INSPECTED_SHARES = (0.1, 0.2, 0.4)  # shares of the images to inspect, the most suspect first, as in the paper


@dataclass(frozen=True, eq=False)
class Suspicion:
    """Suspicion of a label error for each image."""

    values: NDArray[np.float64]  # (n,) larger is more suspect; > 0: another class is nearer than its own
    nearest: NDArray[np.int64]  # (n,) the nearest other class

    def ranking(self) -> NDArray[np.int64]:
        """Return the indices of the images, the most suspect first."""
        return np.argsort(-self.values, kind="stable")


@dataclass(frozen=True)
class Detection:
    """Detection of corrupted labels by a ranking."""

    found: Mapping[float, float]  # share of the images inspected -> share of the corrupted labels among them
    auroc: float  # probability that a corrupted label ranks above a correct one; 0.5: no better than guessing


def suspicion(distances: ArrayLike, labels: ArrayLike) -> Suspicion:
    """Return the distance to the centroid of the label minus the distance to the nearest other centroid.

    `distances` (n, n_classes) to the centroids, `labels` (n,) as in the dataset.

    >>> found = suspicion([[0.2, 0.7, 0.9], [0.5, 0.6, 0.1]], labels=[0, 1])
    >>> found.values.tolist(), found.nearest.tolist()
    ([-0.49999999999999994, 0.5], [1, 2])
    """
    matrix, given = np.asarray(distances, dtype=np.float64), np.asarray(labels)
    rows = np.arange(len(given))
    others = matrix.copy()
    others[rows, given] = np.inf
    nearest = others.argmin(axis=1)
    return Suspicion(matrix[rows, given] - others[rows, nearest], nearest)


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Return the cross entropy of each image, (n,): the usual suspicion of label errors, for comparison.

    >>> cross_entropy([[0.0, 0.0]], labels=[1]).round(6).tolist()  # log 2
    [0.693147]
    """
    rows = np.asarray(labels)
    values: NDArray[np.float64] = -log_softmax(np.asarray(logits, dtype=np.float64), axis=1)[np.arange(len(rows)), rows]
    return values


def corrupt_labels(
    labels: ArrayLike, n_classes: int, *, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (labels, is_corrupt), (n,) each, after replacing random labels by random other classes.

    Args:
        labels: (n,) correct labels.
        n_classes: number of classes.
        share: of the labels to replace.
        seed: of the choice of labels and classes.

    >>> new, is_corrupt = corrupt_labels([0, 1, 2, 0, 1], 3, share=0.4, seed=0)
    >>> int(is_corrupt.sum()), bool((new[is_corrupt] != np.array([0, 1, 2, 0, 1])[is_corrupt]).all())
    (2, True)
    """
    generator = np.random.default_rng(seed)
    new = np.array(labels, dtype=np.int64)
    chosen = generator.permutation(len(new))[: round(share * len(new))]
    new[chosen] = (new[chosen] + generator.integers(1, n_classes, len(chosen))) % n_classes
    is_corrupt = np.zeros(len(new), dtype=bool)
    is_corrupt[chosen] = True
    return new, is_corrupt


def detection(values: ArrayLike, is_corrupt: ArrayLike, inspected: Sequence[float] = INSPECTED_SHARES) -> Detection:
    """Return the share of the corrupted labels among the most suspect images.

    Args:
        values: (n,) suspicion.
        is_corrupt: (n,) whether each label is corrupted; both kinds must occur.
        inspected: shares of the images, the most suspect first.

    >>> detection([5, 4, 3, 2, 1], [True, False, True, False, False], inspected=[0.2, 0.6])
    Detection(found={0.2: 0.5, 0.6: 1.0}, auroc=0.8333333333333334)
    """
    suspect, corrupt = np.asarray(values, dtype=np.float64), np.asarray(is_corrupt, dtype=bool)
    ranked = corrupt[np.argsort(-suspect, kind="stable")]
    found = {share: float(ranked[: round(share * len(ranked))].sum() / corrupt.sum()) for share in inspected}
    return Detection(found, float(roc_auc_score(corrupt, suspect)))


@dataclass(frozen=True)
class PlantedErrors:
    """Detection of planted label errors."""

    share: float  # of the training labels
    validation_error: float  # of the network trained on them, a share
    by_confidence: Detection  # by the probability of the label relative to its class, as suspects are ranked
    by_distance: Detection  # by the distance to the centroid of the label
    by_loss: Detection  # by the cross entropy of the label


def plant_label_errors(
    build: Callable[[], nn.Sequential],
    data: SearchData,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    share: float = 0.2,
    seed: int = 0,
    device: torch.device,
) -> PlantedErrors:
    """Corrupt a share of the training labels, train a new network on them, and evaluate the detection of the errors.

    The network keeps its last epoch, because selecting the best one would need correct labels.

    Args:
        build: returns an untrained network.
        data: training and validation images.
        recipe: of the training.
        augmentation: of the training images.
        share: of the labels to corrupt, more than 0 and less than 1.
        seed: of corruption and training.
        device: of the training.
    """
    check_argument("share", share, OpenShare)
    labels, is_corrupt = corrupt_labels(data.train.labels, data.n_classes, share=share, seed=seed)
    train = replace(data.train, labels=labels)
    corrupted = replace(data, train=train)
    network = build()
    fitted = fit(network, corrupted, replace(recipe, keep="last"), augmentation=augmentation, seed=seed, device=device)
    part, read = on_features(network, corrupted)
    centroids = class_centroids(part, read.train, read)
    comparison = compare(part, read.train, read, centroids)
    return evaluate_planted(centroids, comparison, labels, is_corrupt, fitted.validation_error)


def evaluate_planted(
    centroids: Centroids,
    comparison: Comparison,
    labels: NDArray[np.int64],
    is_corrupt: NDArray[np.bool_],
    validation_error: float,
) -> PlantedErrors:
    """Return the detection of planted label errors by a network that was trained on them.

    Args:
        centroids: of the training images.
        comparison: of the training images.
        labels: (n,) with the planted errors.
        is_corrupt: (n,) whether each label is corrupted.
        validation_error: of the network, a share.
    """
    suspect = suspicion(leave_one_out_distances(comparison, labels, centroids), labels).values
    return PlantedErrors(
        share=float(is_corrupt.mean()),
        validation_error=validation_error,
        by_confidence=detection(-relative_confidence(labels, softmax(comparison.logits, axis=1)), is_corrupt),
        by_distance=detection(suspect, is_corrupt),
        by_loss=detection(cross_entropy(comparison.logits, labels), is_corrupt),
    )
