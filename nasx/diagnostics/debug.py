"""Examine one trained network and its data: calibration, label errors, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from nasx.data.dataset import LabelledImages, SearchData
from nasx.diagnostics.calibration import cross_calibrated
from nasx.diagnostics.centroids import (
    Centroids,
    Judgement,
    class_centroids,
    cosine_distances,
    distances_without_itself,
    judge,
)
from nasx.diagnostics.class_pairs import confusion_matrix
from nasx.diagnostics.label_errors import Suspicion, suspicion


@dataclass(frozen=True, eq=False)
class Confidence:
    """One way of telling how sure a network is of its answers to the validation images."""

    name: str  # "softmax", "activations", ...
    values: NDArray[np.float64]  # (n,) larger is surer
    probability: NDArray[np.float64]  # (n,) of being right, calibrated on the other images
    is_probability: bool = False  # whether the values themselves pass for one


@dataclass(frozen=True, eq=False)
class Debugging:
    """One trained network, looked over: its confidence on validation images, the labels of its training images."""

    is_right: NDArray[np.bool_]  # (n_validation,)
    confidences: tuple[Confidence, ...]
    confusion: NDArray[np.int64]  # (n_classes, n_classes) validation images by true (row) and predicted class
    train: LabelledImages
    suspicion: Suspicion  # of the training images
    train_probabilities: NDArray[np.float64]  # (n_train, n_classes) softmax
    distances: Mapping[str, NDArray[np.float64]]  # scorer -> (n_classes, n_classes), as recorded when it was trained


def debug(
    network: nn.Module, data: SearchData, *, distances: Mapping[str, NDArray[np.float64]], seed: int = 0
) -> Debugging:
    """Look over `network`: three passes over the training images, one over the validation images.

    `distances`: how far apart the network holds its classes, by scorer. `seed`: of the folds in which confidences are
    calibrated. The network is left unchanged. Source of the confidence by activations: Carmichael, Moon, Jacobs, 2023.
    """
    centroids = class_centroids(network, data.train, data)
    return conclude(
        centroids,
        judge(network, data.train, data, centroids),
        judge(network, data.validation, data, centroids),
        train=data.train,
        validation_labels=data.validation.labels,
        distances=distances,
        seed=seed,
    )


def conclude(
    centroids: Centroids,
    trained_on: Judgement,
    held_out: Judgement,
    *,
    train: LabelledImages,
    validation_labels: NDArray[np.int64],
    distances: Mapping[str, NDArray[np.float64]],
    seed: int = 0,
) -> Debugging:
    """What follows from how a network judges the images that it was trained on and those that were held out."""
    predicted = held_out.logits.argmax(axis=1)
    is_right = predicted == validation_labels
    to_centroids = cosine_distances(held_out.products, held_out.squares, centroids.squares)
    chosen = (np.arange(len(predicted)), predicted)
    measures = {
        "softmax": softmax(held_out.logits, axis=1)[chosen],
        "activations": 1 - to_centroids[chosen],
        "activation margin": -suspicion(to_centroids, predicted).values,
    }
    return Debugging(
        is_right=is_right,
        confidences=tuple(
            Confidence(name, values, cross_calibrated(values, is_right, seed=seed), name == "softmax")
            for name, values in measures.items()
        ),
        confusion=confusion_matrix(validation_labels, predicted, train.n_classes),
        train=train,
        suspicion=suspicion(distances_without_itself(trained_on, train.labels, centroids), train.labels),
        train_probabilities=softmax(trained_on.logits, axis=1),
        distances=distances,
    )
