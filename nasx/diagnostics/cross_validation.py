"""Out-of-sample probabilities of training images: each is predicted by a network that was trained without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from nasx.backbones.features import on_features
from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches
from nasx.data.dataset import LabeledImages, SearchData
from nasx.introspection.layers import evaluation_mode
from nasx.training.fit import fit
from nasx.training.recipe import Recipe
from nasx.trial import derive_seed

BATCH = 256  # images per forward pass
MIN_FOLDS, MAX_FOLDS = 2, 20


def draw_folds(labels: NDArray[np.int64], folds: int, *, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image, (n,), in [0, folds): random, with every class spread evenly.

    >>> labels = np.array([0, 1, 0, 1, 0, 1])
    >>> fold = draw_folds(labels, 3, seed=0)
    >>> sorted(fold[labels == 0].tolist()), sorted(fold[labels == 1].tolist())
    ([0, 1, 2], [0, 1, 2])
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % folds
    return found


def cross_validate(
    build: Callable[[int], nn.Sequential],
    data: SearchData,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    folds: int,
    seed: int,
    device: torch.device,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> NDArray[np.float64]:
    """Return the softmax of each training image by a network that was trained on the other folds, (n_train, n_classes).

    Every training has the same recipe and validation images, and its own seed, derived from `seed`. Raises
    TrialFailure if a training diverges.

    Args:
        build: returns an untrained network for a seed.
        data: training and validation images.
        recipe: of the trainings.
        augmentation: of the training images.
        folds: number of trainings, from 2.
        seed: of the folds and the trainings.
        device: of the trainings.
        report: called with the number of the fold and the record of every epoch.
    """
    fold_of = draw_folds(data.train.labels, folds, seed=derive_seed(seed, "folds"))
    found = np.empty((len(data.train), data.n_classes))
    for fold in range(folds):
        rest, own = (np.flatnonzero(mask) for mask in (fold_of != fold, fold_of == fold))
        if not len(own):  # fewer images than folds
            continue
        own_seed = derive_seed(seed, f"fold {fold}")
        network = build(own_seed)
        fit(
            network,
            replace(data, train=data.train.take(rest)),
            recipe,
            augmentation=augmentation,
            seed=own_seed,
            device=device,
            report=None if report is None else partial(report, fold),
        )
        found[own] = predict(network, data.train.take(own), data)
    return found


def predict(network: nn.Module, images: LabeledImages, data: SearchData) -> NDArray[np.float64]:
    """Return the softmax of images, (n, n_classes).

    Args:
        network: trained.
        images: labeled images.
        data: images on which it was trained, for their mean and standard deviation.
    """
    device = next(network.parameters()).device
    if isinstance(network, nn.Sequential):
        network, data = on_features(network, replace(data, validation=images))
        images = data.validation
    batches = EvaluationBatches(images, mean=data.mean, std=data.std, batch_size=BATCH, device=device)
    with evaluation_mode(network), torch.no_grad():
        logits = torch.cat([network(batch).double() for batch, _ in batches]).cpu().numpy()
    probabilities: NDArray[np.float64] = softmax(logits, axis=1)
    return probabilities
