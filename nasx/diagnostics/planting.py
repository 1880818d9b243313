"""Labels corrupted on purpose: would this architecture, trained on them, show where they are?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.images import SearchData
from nasx.diagnostics.centroids import Centroids, Judgement, class_centroids, distances_without_itself, judge
from nasx.diagnostics.mislabelled import Detection, corrupt_labels, detection, loss, suspicion
from nasx.errors import SettingError
from nasx.training import Recipe
from nasx.training.fitting import fit


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
