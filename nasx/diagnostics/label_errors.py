"""Rank training images by how suspect their labels are, and test the ranking on labels corrupted on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import SearchData
from nasx.diagnostics.centroids import Centroids, Judgement, class_centroids, distances_without_itself, judge
from nasx.errors import SettingError
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

LOOKED_AT = (0.1, 0.2, 0.4)  # shares of the images, the most suspect first, among which the paper counts finds


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How suspect the label of each image is."""

    values: NDArray[np.float64]  # (n,) larger is more suspect; > 0: another class lies nearer than its own
    nearest: NDArray[np.int64]  # (n,) the nearest other class

    def ranking(self) -> NDArray[np.int64]:
        """Indices of the images, the most suspect first."""
        return np.argsort(-self.values, kind="stable")


@dataclass(frozen=True)
class Detection:
    """How well a ranking finds corrupted labels."""

    found: Mapping[float, float]  # share of the images looked at -> share of the corrupted ones found among them
    auroc: float  # chance that a corrupted image ranks above a sound one; 0.5: no better than guessing


def suspicion(distances: ArrayLike, labels: ArrayLike) -> Suspicion:
    """Distance to the given label's centroid less the distance to the nearest other one.

    `distances` (n, n_classes) to the centroids, `labels` (n,) as given.

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


def loss(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Cross entropy of each image, (n,): the usual ranking of suspects, against which ours is measured.

    >>> loss([[0.0, 0.0]], labels=[1]).round(6).tolist()  # log 2
    [0.693147]
    """
    rows = np.asarray(labels)
    values: NDArray[np.float64] = -log_softmax(np.asarray(logits, dtype=np.float64), axis=1)[np.arange(len(rows)), rows]
    return values


def corrupt_labels(
    labels: ArrayLike, n_classes: int, *, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(labels, is_corrupt), (n,) each: a `share` of the labels drawn, each replaced by another class, uniformly.

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


def detection(values: ArrayLike, is_corrupt: ArrayLike, looked_at: Sequence[float] = LOOKED_AT) -> Detection:
    """How many of the corrupted labels lie among the most suspect images.

    `values` (n,), larger is more suspect. Both kinds of label must be there.

    >>> detection([5, 4, 3, 2, 1], [True, False, True, False, False], looked_at=[0.2, 0.6])
    Detection(found={0.2: 0.5, 0.6: 1.0}, auroc=0.8333333333333334)
    """
    suspect, corrupt = np.asarray(values, dtype=np.float64), np.asarray(is_corrupt, dtype=bool)
    ranked = corrupt[np.argsort(-suspect, kind="stable")]
    found = {share: float(ranked[: round(share * len(ranked))].sum() / corrupt.sum()) for share in looked_at}
    return Detection(found, float(roc_auc_score(corrupt, suspect)))


@dataclass(frozen=True)
class Planted:
    """What came of planting corrupted labels."""

    share: float  # of the training labels
    validation_error: float  # of the network trained on them, a share
    by_distance: Detection  # by the distance to the centroid of the given label
    by_loss: Detection  # by the cross entropy of the given label


def plant(
    build: Callable[[], nn.Sequential],
    data: SearchData,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    share: float = 0.2,
    seed: int = 0,
    device: torch.device,
) -> Planted:
    """Corrupt a `share` of the training labels, train a new network on them, and look for them.

    `build` gives an untrained network. It is trained by the `recipe`, but keeps its last epoch: no sound labels would
    be there to choose the best one by.
    """
    if not 0 < share < 1:
        raise SettingError("share", f"must lie between 0 and 1, got {share:g}")
    labels, is_corrupt = corrupt_labels(data.train.labels, data.n_classes, share=share, seed=seed)
    train = replace(data.train, labels=labels)
    corrupted = replace(data, train=train)
    network = build()
    fitted = fit(network, corrupted, replace(recipe, keep="last"), augmentation=augmentation, seed=seed, device=device)
    centroids = class_centroids(network, train, corrupted)
    judgement = judge(network, train, corrupted, centroids)
    return found_planted(centroids, judgement, labels, is_corrupt, fitted.validation_error)


def found_planted(
    centroids: Centroids,
    judgement: Judgement,
    labels: NDArray[np.int64],
    is_corrupt: NDArray[np.bool_],
    validation_error: float,
) -> Planted:
    """How well a network finds the corrupted ones among the `labels`, (n,), that it was trained on."""
    suspect = suspicion(distances_without_itself(judgement, labels, centroids), labels).values
    return Planted(
        share=float(is_corrupt.mean()),
        validation_error=validation_error,
        by_distance=detection(suspect, is_corrupt),
        by_loss=detection(loss(judgement.logits, labels), is_corrupt),
    )
