"""Suspects: all images of a run, training and validation part, ranked by suspicion of a wrong label."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nasx.data.dataset import LabeledImages
from nasx.diagnostics.confident_learning import (
    ErrorEstimate,
    estimate_errors,
    expected_precision,
    largest_share,
    relative_confidence,
)

WEAK_PRECISION: Final = 0.5  # expected share of wrong labels among the suspects below which most of them are correct
# Errors of the network, relative to those of always predicting the largest class. From the first on, few suspects mean
# nothing; from the second on, no list does: measured on simulated networks
UNSURE_ERROR: Final = 0.3
WEAK_ERROR: Final = 0.5
LEARNED_BY_HEART: Final = 0.5  # error on the training images, relative to that on other images


class Judgement(StrEnum):
    """Meaning of a list of suspects."""

    FOUND = "found"  # wrong labels are probable, and the list finds them
    CLEAN = "clean"  # no more suspects than in a dataset without wrong labels
    WEAK = "weak"  # the network is too weak for the list to mean anything
    UNKNOWN = "unknown"  # the network may have learned wrong labels by heart, and then confirms them


@dataclass(frozen=True, eq=False)
class Suspects:
    """Images with the suspicion that their label is wrong. Images of the training part precede those of validation."""

    train: LabeledImages
    validation: LabeledImages | None  # None: only the training images are ranked
    probabilities: NDArray[np.float64]  # (n, n_classes) softmax
    out_of_sample: NDArray[np.bool_]  # (n,) True if the network that predicted an image was not trained on it
    confidence: NDArray[np.float64]  # (n,) probability of the label relative to its class; lower is more suspect
    distance: NDArray[np.float64]  # (n,) activations: larger is more suspect, > 0: another class is nearer
    estimate: ErrorEstimate  # of the number of wrong labels
    held_out: tuple[int, int] = (0, 0)  # errors of the network, and number of images that it was not trained on

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels as in the dataset."""
        return self.train.labels if self.validation is None else _joined(self.train.labels, self.validation.labels)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) most probable class of each image."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def error(self) -> float:
        """Share of the images that are predicted as another class than their label, out-of-sample if there are any."""
        wrong = self.predicted != self.labels
        return float(wrong[self.out_of_sample].mean() if self.out_of_sample.any() else wrong.mean())

    @property
    def precision(self) -> float:
        """Expected share of wrong labels among the likely errors."""
        return expected_precision(self.estimate.number / len(self), self.error)

    @property
    def judgement(self) -> Judgement:
        """Whether the list of suspects means anything."""
        chance = 1 - np.bincount(self.labels).max() / len(self)  # error of predicting always the largest class
        if self.error >= WEAK_ERROR * chance:
            return Judgement.WEAK
        if self.estimate.low > 0 and self.precision >= WEAK_PRECISION:
            return Judgement.FOUND
        if self.learned_by_heart:
            return Judgement.UNKNOWN
        return Judgement.CLEAN if self.error < UNSURE_ERROR * chance else Judgement.WEAK

    @property
    def learned_by_heart(self) -> bool:
        """Whether some images are predicted by a network that may have learned their labels, wrong ones too, by heart.

        It errs on them less than half as often as on other images, of which a few do not show how often it errs.
        """
        wrong = (self.predicted != self.labels)[~self.out_of_sample]
        return bool(len(wrong)) and float(wrong.mean()) < LEARNED_BY_HEART * largest_share(*self.held_out)

    @property
    def suggested(self) -> NDArray[np.int64]:
        """(n,) most probable class of each image other than its label."""
        others = self.probabilities.copy()
        others[np.arange(len(self)), self.labels] = -1
        return np.asarray(others.argmax(axis=1))

    def ranking(self) -> NDArray[np.int64]:
        """Return the indices of the images, the most suspect first; at equal confidence by distance."""
        return np.lexsort((-self.distance, self.confidence))

    def likely_errors(self) -> NDArray[np.int64]:
        """Return the indices of as many images as wrong labels are estimated, the most suspect first."""
        return self.ranking()[: self.estimate.number]

    def locate(self, index: int) -> tuple[LabeledImages, int]:
        """Return the part of the data with an image, and its index in the part."""
        n = len(self.train)
        if index < n or self.validation is None:
            return self.train, index
        return self.validation, index - n

    def name(self, index: int) -> str:
        """Return the file of an image, or its position in the dataset."""
        part, i = self.locate(index)
        return part.image_name(i)

    def position(self, index: int) -> int:
        """Return the position of an image in the dataset, before splits and corrections."""
        part, i = self.locate(index)
        return int(part.positions[i])

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of an image, (channels, height, width)."""
        part, i = self.locate(index)
        return np.asarray(part.images[i])


def rank_suspects(
    train: LabeledImages,
    validation: LabeledImages | None,
    probabilities: NDArray[np.float64],
    distance: NDArray[np.float64],
    *,
    out_of_sample: NDArray[np.bool_],
    held_out: tuple[int, int] | None = None,
    seed: int = 0,
) -> Suspects:
    """Return the images ranked by suspicion of a wrong label.

    Args:
        train: n_train images.
        validation: n_validation images; None: only the training images are ranked.
        probabilities: (n, n_classes) softmax of all images, training images first.
        distance: (n,) suspicion by distance, of the same images.
        out_of_sample: (n,) True if the network that predicted an image was not trained on it.
        held_out: errors of the network, and number of images that it was not trained on; None: count them among these.
        seed: of the estimate of the number of errors.
    """
    labels = train.labels if validation is None else _joined(train.labels, validation.labels)
    # a network confirms wrong labels that it has learned by heart: count on the other images, and extrapolate
    counted = out_of_sample if out_of_sample.any() else ~out_of_sample
    estimate = estimate_errors(labels[counted], probabilities[counted], seed=seed)
    if held_out is None:
        wrong = (probabilities.argmax(axis=1) != labels)[out_of_sample]
        held_out = int(wrong.sum()), len(wrong)
    return Suspects(
        train=train,
        validation=validation,
        probabilities=probabilities,
        out_of_sample=out_of_sample,
        confidence=relative_confidence(labels, probabilities),
        distance=distance,
        estimate=estimate.extrapolated(int(counted.sum()), len(labels)),
        held_out=held_out,
    )


def _joined(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([first, second])
