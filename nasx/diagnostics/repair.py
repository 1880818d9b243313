"""Repairing one confusion: a few more epochs in which two classes are pushed apart. Does it help?

More training alone may help as well. So every repair has its twin: as many epochs with the same seed on plain cross
entropy. A repair helps where it beats both the network as it was and the twin, whatever the seed.
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

from nasx.data.augmentation import Augmentation
from nasx.data.batches import Pixels
from nasx.data.dataset import SearchData
from nasx.diagnostics.class_pairs import confusion_matrix, folded_confusion
from nasx.introspection.activations import ActivationScorer, predict
from nasx.introspection.regularizer import pair_emphasis
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

EPOCHS, LEARNING_RATE = 5, 0.001
REGULARISER, EMPHASIS = 0.5, 25.0  # weight of the term in the loss, and of the pair in the term
BATCH = 256  # images a forward pass


class Verdict(StrEnum):
    """Whether a repair is worth keeping."""

    HELPED = "helped"  # fewer confusions of the pair than before and than its twin, with every seed
    MOVED = "moved errors elsewhere"  # likewise, but more errors in all than its twin, on average
    NO_HELP = "did not help"


@dataclass(frozen=True)
class Outcome:
    """How a network does on the validation images."""

    confusions: int  # images of either class that are taken for the other
    errors: int  # images that are classified wrongly, those among them
    distance: float  # cosine distance of the two classes by activations; NaN: none


@dataclass(frozen=True)
class Repair:
    """A confused pair before and after, once a seed."""

    pair: tuple[int, int]
    n_images: int  # validation images
    before: Outcome
    repaired: tuple[Outcome, ...]  # with the pair pushed apart; one a seed
    twins: tuple[Outcome, ...]  # trained as long without; the same seeds

    @property
    def verdict(self) -> Verdict:
        """What the outcomes say."""
        couples = list(zip(self.repaired, self.twins, strict=True))
        if not all(r.confusions < min(t.confusions, self.before.confusions) for r, t in couples):
            return Verdict.NO_HELP
        return Verdict.MOVED if sum(r.errors - t.errors for r, t in couples) > 0 else Verdict.HELPED


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
    """Fine-tune copies of `network` with the classes of `pair` pushed apart, and their twins without.

    Batch size, momentum and weight decay are those of `recipe`. The network itself is left as it is.
    """
    gentle = replace(recipe, epochs=EPOCHS, learning_rate=LEARNING_RATE, warmup_epochs=0.0, keep="last")
    weights = pair_emphasis(data.n_classes, pair, EMPHASIS)

    def tuned(regularizer: float, seed: int) -> Outcome:
        patient = copy.deepcopy(network)
        course = replace(gentle, regularizer=regularizer)
        fit(patient, data, course, augmentation=augmentation, seed=seed, device=device, pair_weights=weights)
        return outcome(patient, data, pair)

    return Repair(
        pair=pair,
        n_images=len(data.validation),
        before=outcome(network, data, pair),
        repaired=tuple(tuned(REGULARISER, seed) for seed in seeds),
        twins=tuple(tuned(0.0, seed) for seed in seeds),
    )


def outcome(network: nn.Module, data: SearchData, pair: tuple[int, int]) -> Outcome:
    """How `network` does on the validation images, with an eye on one pair of classes."""
    device = next(network.parameters()).device
    pixels = Pixels(data.validation, mean=data.mean, std=data.std, device=device)
    predicted = predict(network, pixels, batch_size=BATCH)
    confusion = confusion_matrix(data.validation.labels, predicted.cpu().numpy(), data.n_classes)
    score = ActivationScorer().score(network, pixels, pixels.labels, n_classes=data.n_classes, seed=0)
    return Outcome(
        confusions=int(folded_confusion(confusion)[pair]),
        errors=int(confusion.sum() - np.trace(confusion)),
        distance=float(score.distances[pair]),
    )
