"""Examine one trained network and its data: calibration, label errors, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from nasx.backbones.features import on_features
from nasx.data.dataset import LabeledImages, SearchData
from nasx.diagnostics.calibration import out_of_fold_probabilities
from nasx.diagnostics.centroids import (
    Centroids,
    Comparison,
    class_centroids,
    compare,
    cosine_distances,
    leave_one_out_distances,
)
from nasx.diagnostics.class_pairs import confusion_matrix
from nasx.diagnostics.class_report import ClassReport
from nasx.diagnostics.label_errors import suspicion
from nasx.diagnostics.suspects import Suspects, rank_suspects


@dataclass(frozen=True, eq=False)
class ConfidenceMeasure:
    """Measure of confidence, with its values for the predictions on the validation images."""

    name: str  # "softmax", "activations", ...
    values: NDArray[np.float64]  # (n,) larger is more confident
    probability: NDArray[np.float64]  # (n,) of a correct prediction, calibrated on the other images
    is_probability: bool = False  # True if `values` are probabilities, too


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Diagnosis of a trained network: confidence on the validation images, label errors of the training images."""

    is_correct: NDArray[np.bool_]  # (n_validation,)
    confidences: tuple[ConfidenceMeasure, ...]
    confusion: NDArray[np.int64]  # (n_classes, n_classes) validation images by true (row) and predicted class
    train: LabeledImages
    suspects: Suspects  # training images, and validation images if they have labels to be corrected
    distances: Mapping[str, NDArray[np.float64]]  # scorer -> (n_classes, n_classes), as recorded when it was trained

    def report(self) -> ClassReport:
        """Return recall and precision of each class on the validation images."""
        return ClassReport(self.train.class_names, self.confusion)


def debug(
    network: nn.Module,
    data: SearchData,
    *,
    distances: Mapping[str, NDArray[np.float64]],
    out_of_sample: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose a network in three passes over the training images and one over the validation images.

    The network is not changed. Source of the confidence by activations: Carmichael, Moon, Jacobs, 2023.

    Args:
        network: trained.
        data: images on which it was trained and validated.
        distances: scorer -> (n_classes, n_classes) distances between classes.
        out_of_sample: (n_train, n_classes) softmax of the training images by networks that were not trained on them;
            None: that of the network itself.
        seed: of the folds in which confidences are calibrated.
    """
    centroids, trained_on, held_out = _compare_all(network, data)
    return diagnose(
        centroids,
        trained_on,
        held_out,
        train=data.train,
        validation_labels=data.validation.labels,
        distances=distances,
        validation=data.validation,
        out_of_sample=out_of_sample,
        seed=seed,
    )


def diagnose(
    centroids: Centroids,
    trained_on: Comparison,
    held_out: Comparison,
    *,
    train: LabeledImages,
    validation_labels: NDArray[np.int64],
    distances: Mapping[str, NDArray[np.float64]],
    validation: LabeledImages | None = None,
    out_of_sample: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Return the diagnosis of a network from its comparisons of images with class centroids.

    Args:
        centroids: of the training images.
        trained_on: comparison of the training images.
        held_out: comparison of the validation images.
        train: training images.
        validation_labels: (n_validation,).
        distances: scorer -> (n_classes, n_classes) distances between classes.
        validation: images that are ranked as suspects next to the training images; None: only these.
        out_of_sample: (n_train, n_classes) softmax of the training images by networks that were not trained on them;
            None: that of the network itself.
        seed: of the folds in which confidences are calibrated.
    """
    predicted = held_out.logits.argmax(axis=1)
    is_correct = predicted == validation_labels
    return Diagnosis(
        is_correct=is_correct,
        confidences=_confidences(centroids, held_out, is_correct, seed),
        confusion=confusion_matrix(validation_labels, predicted, train.n_classes),
        train=train,
        suspects=_suspects(
            centroids,
            trained_on,
            held_out,
            train,
            validation,
            out_of_sample=out_of_sample,
            errors=(int((~is_correct).sum()), len(is_correct)),
            seed=seed,
        ),
        distances=distances,
    )


def suspects_of(
    network: nn.Module, data: SearchData, *, out_of_sample: NDArray[np.float64] | None = None, seed: int = 0
) -> Suspects:
    """Return the training and validation images, ranked by suspicion of a wrong label, as in `debug`.

    Args:
        network: trained.
        data: images on which it was trained and validated.
        out_of_sample: (n_train, n_classes) softmax of the training images by networks that were not trained on them;
            None: that of the network itself.
        seed: of the estimate of the number of errors.
    """
    centroids, trained_on, held_out = _compare_all(network, data)
    wrong = held_out.logits.argmax(axis=1) != data.validation.labels
    errors = int(wrong.sum()), len(wrong)
    return _suspects(
        centroids,
        trained_on,
        held_out,
        data.train,
        data.validation,
        out_of_sample=out_of_sample,
        errors=errors,
        seed=seed,
    )


def _compare_all(network: nn.Module, data: SearchData) -> tuple[Centroids, Comparison, Comparison]:
    """Return the centroids of the training images, and the comparisons of training and validation images with them.

    Those of a network with a frozen backbone are computed from its features.
    """
    part, read = on_features(network, data) if isinstance(network, nn.Sequential) else (network, data)
    centroids = class_centroids(part, read.train, read)
    trained_on, held_out = (compare(part, images, read, centroids) for images in (read.train, read.validation))
    return centroids, trained_on, held_out


def _suspects(
    centroids: Centroids,
    trained_on: Comparison,
    held_out: Comparison,
    train: LabeledImages,
    validation: LabeledImages | None,
    *,
    out_of_sample: NDArray[np.float64] | None,
    errors: tuple[int, int],
    seed: int,
) -> Suspects:
    """Return the suspects, as `diagnose`; `errors`: of the network, and number of the validation images.

    A training image is not part of the class mean that it is compared with.
    """
    own = softmax(trained_on.logits, axis=1) if out_of_sample is None else out_of_sample
    distance = suspicion(leave_one_out_distances(trained_on, train.labels, centroids), train.labels).values
    is_out = np.full(len(train), out_of_sample is not None)
    if validation is not None:
        to_centroids = cosine_distances(held_out.products, held_out.squares, centroids.squares)
        own = np.concatenate([own, softmax(held_out.logits, axis=1)])
        distance = np.concatenate([distance, suspicion(to_centroids, validation.labels).values])
        is_out = np.concatenate([is_out, np.ones(len(validation), dtype=bool)])
    return rank_suspects(train, validation, own, distance, out_of_sample=is_out, held_out=errors, seed=seed)


def _confidences(
    centroids: Centroids, held_out: Comparison, is_correct: NDArray[np.bool_], seed: int
) -> tuple[ConfidenceMeasure, ...]:
    """Return the confidence by softmax, by the distance to the centroid, and by its margin."""
    predicted = held_out.logits.argmax(axis=1)
    to_centroids = cosine_distances(held_out.products, held_out.squares, centroids.squares)
    chosen = (np.arange(len(predicted)), predicted)
    measures = {
        "softmax": softmax(held_out.logits, axis=1)[chosen],
        "activations": 1 - to_centroids[chosen],
        "activation margin": -suspicion(to_centroids, predicted).values,
    }
    return tuple(
        ConfidenceMeasure(name, values, out_of_fold_probabilities(values, is_correct, seed=seed), name == "softmax")
        for name, values in measures.items()
    )
