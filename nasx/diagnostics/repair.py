"""Repair of one confusion: fine-tuning for some epochs with a regularizer that separates two classes.

More training may be sufficient. Therefore every repair has a control: as many epochs with the same seed and plain cross
entropy. A repair helps if it is better than both the original network and its control with every seed.
Source: Carmichael, Moon, Jacobs, 2023, Eq. 4: 5 epochs at learning rate 0.001, weight 25 on the confused pair.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from torch import nn

from nasx.backbones.features import on_features
from nasx.data.augmentation import Augmentation
from nasx.data.batches import Pixels
from nasx.data.dataset import SearchData
from nasx.diagnostics.class_pairs import confusion_matrix, symmetric_confusion
from nasx.introspection.activations import ActivationScorer, predict
from nasx.introspection.regularizer import pair_emphasis
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

EPOCHS, LEARNING_RATE = 5, 0.001
REGULARIZER, EMPHASIS = 0.5, 25.0  # weight of the regularizer in the loss, and of the pair in it
BATCH = 256  # images per forward pass


class Verdict(StrEnum):
    """Verdict on a repair."""

    HELPED = "helped"  # fewer confusions of the pair than before and than the control, with every seed
    MOVED = "moved errors elsewhere"  # the same, but more errors in total than the controls, on average
    NO_HELP = "did not help"


@dataclass(frozen=True)
class Outcome:
    """Results of a network on the validation images."""

    confusions: int  # images of either class that are predicted as the other
    errors: int  # incorrect predictions, including confusions of the pair
    distance: float  # cosine distance of the two classes by activations; NaN: not defined


@dataclass(frozen=True)
class Repair:
    """Confused pair of classes before and after the repair, with several seeds."""

    pair: tuple[int, int]
    n_images: int  # validation images
    before: Outcome
    repaired: tuple[Outcome, ...]  # fine-tuned with the regularizer; one per seed
    controls: tuple[Outcome, ...]  # fine-tuned without it; the same seeds

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the outcomes."""
        couples = list(zip(self.repaired, self.controls, strict=True))
        if not all(r.confusions < min(c.confusions, self.before.confusions) for r, c in couples):
            return Verdict.NO_HELP
        return Verdict.MOVED if sum(r.errors - c.errors for r, c in couples) > 0 else Verdict.HELPED


def repair(
    network: nn.Module,
    data: SearchData,
    pair: tuple[int, int],
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    seeds: Sequence[int],
    device: torch.device,
) -> Repair:
    """Fine-tune copies of a network with a regularizer that separates two classes, and controls without it.

    The network itself is not changed.

    Args:
        network: trained.
        data: training and validation images.
        pair: the two classes.
        recipe: batch size, momentum and weight decay of the fine-tuning.
        augmentation: of the training images.
        seeds: one repair and one control per seed.
        device: of the training.
    """
    gentle = replace(recipe, epochs=EPOCHS, learning_rate=LEARNING_RATE, warmup_epochs=0.0, keep="last")
    weights = pair_emphasis(data.n_classes, pair, EMPHASIS)

    def tuned(regularizer: float, seed: int) -> Outcome:
        copied = copy.deepcopy(network)
        own = replace(gentle, regularizer=regularizer)
        fit(copied, data, own, augmentation=augmentation, seed=seed, device=device, pair_weights=weights)
        return outcome(copied, data, pair)

    return Repair(
        pair=pair,
        n_images=len(data.validation),
        before=outcome(network, data, pair),
        repaired=tuple(tuned(REGULARIZER, seed) for seed in seeds),
        controls=tuple(tuned(0.0, seed) for seed in seeds),
    )


def outcome(network: nn.Module, data: SearchData, pair: tuple[int, int]) -> Outcome:
    """Return the results of a network on the validation images, for one pair of classes.

    Args:
        network: trained.
        data: training and validation images.
        pair: the two classes.
    """
    device = next(network.parameters()).device
    if isinstance(network, nn.Sequential):
        network, data = on_features(network, data)
    pixels = Pixels(data.validation, mean=data.mean, std=data.std, device=device)
    predicted = predict(network, pixels, batch_size=BATCH)
    confusion = confusion_matrix(data.validation.labels, predicted.cpu().numpy(), data.n_classes)
    score = ActivationScorer().score(network, pixels, pixels.labels, n_classes=data.n_classes, seed=0)
    return Outcome(
        confusions=int(symmetric_confusion(confusion)[pair]),
        errors=int(confusion.sum() - np.trace(confusion)),
        distance=float(score.distances[pair]),
    )
