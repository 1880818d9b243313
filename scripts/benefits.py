"""Benefits of introspectable networks that the paper claims, measured on one trained network at a time.

The claims: classes are disentangled layer by layer; distances to class centroids are a calibrated confidence, and find
errors and wrong labels; the classes with similar representations are those that are confused; increasing their distance
reduces the confusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.data.dataset import LabeledImages, SearchData
from nasx.diagnostics.calibration import error_auroc, reliability
from nasx.diagnostics.centroids import class_centroids, compare, cosine_distances
from nasx.diagnostics.class_pairs import closeness_and_confusion, confusion_matrix, symmetric_confusion
from nasx.diagnostics.label_errors import plant_label_errors
from nasx.diagnostics.repair import repair
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from scripts.trained_networks import Study, Trained, device, pixels_of

SCORERS: Final = {"shap": ShapScorer(), "activations": ActivationScorer()}
IMAGES = 1000  # training images for probes and centroids
GRID = 2  # side to which maps are averaged before the probe, so that it has channels and coarse positions
BINS = 50  # of confidence, as in the paper
INSPECTED = 0.2  # share of the images, the most suspect first, among which wrong labels are counted


def describe(study: Study, record: Trained) -> dict[str, float | None]:
    """Return the scores of a network and the benefits that need no further training; None: undefined."""
    experiment = study.experiment
    network, data = study.network(record), experiment.data
    some = data.train.take(np.arange(min(IMAGES, len(data.train))))  # a random sample: the split is shuffled
    found: dict[str, float | None] = {"error": record.error, "parameters": float(record.parameters)}
    pixels, labels = pixels_of(data.validation, data)
    distances = {}
    for name, scorer in SCORERS.items():
        seed = experiment.score_seed
        score = scorer.score(network, pixels, labels, n_classes=data.n_classes, seed=seed)
        found[f"introspectability {name}"] = score.value
        distances[name] = score.distances
    return {**found, **disentanglement(network, some, data), **trust(network, some, data, distances)}


def disentanglement(network: nn.Sequential, some: LabeledImages, data: SearchData) -> dict[str, float | None]:
    """Return accuracy of a linear probe and class separability, each the mean over the stages.

    Args:
        network: trained.
        some: images on which the probes are fitted.
        data: its validation images are for the accuracy.
    """
    train = stage_features(network, pixels_of(some, data)[0])
    held_out = stage_features(network, pixels_of(data.validation, data)[0])
    accuracies, separabilities = [], []
    for stage, features in train.items():
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(features, some.labels)
        accuracies.append(probe.score(held_out[stage], data.validation.labels))
        separabilities.append(between_share(held_out[stage], data.validation.labels))
    return {"probe": float(np.mean(accuracies)), "separability": float(np.mean(separabilities))}


def stage_features(network: nn.Sequential, images: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return the output of each stage before the head, averaged over a grid: (n, channels * GRID^2)."""
    features = {}
    with torch.no_grad():
        for name, stage in list(network.named_children())[:-1]:
            images = stage(images)
            features[name] = F.adaptive_avg_pool2d(images, GRID).flatten(1).double().cpu().numpy()
    return features


def between_share(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the class separability: the share in [0, 1] of the variance of features, (n, n_features), between classes.

    >>> between_share(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1]))  # means 1 and 5: 4 of 5
    0.8
    """
    centered = features - features.mean(axis=0)
    between = sum((labels == c).sum() * (centered[labels == c].mean(axis=0) ** 2).sum() for c in np.unique(labels))
    total = (centered**2).sum()
    return float(between / total) if total > 0 else 0.0


def trust(
    network: nn.Sequential, some: LabeledImages, data: SearchData, distances: Mapping[str, NDArray[np.float64]]
) -> dict[str, float | None]:
    """Return calibration and error detection by distance and by softmax, and how closeness predicts confusion.

    Args:
        network: trained.
        some: images for the centroids.
        data: its validation images are evaluated.
        distances: between classes by each score, (n_classes, n_classes).
    """
    centroids = class_centroids(network, some, data)
    seen = compare(network, data.validation, data, centroids)
    predicted = seen.logits.argmax(axis=1)
    chosen = (np.arange(len(predicted)), predicted)
    is_correct = predicted == data.validation.labels
    confidences = {
        "activations": 1 - cosine_distances(seen.products, seen.squares, centroids.squares)[chosen],
        "softmax": softmax(seen.logits, axis=1)[chosen],
    }
    confusion = confusion_matrix(data.validation.labels, predicted, data.n_classes)
    found: dict[str, float | None] = {}
    for name, values in confidences.items():
        found[f"calibration {name}"] = reliability(values, is_correct, BINS).spearman
        found[f"errors {name}"] = error_auroc(values, is_correct)
    for name, apart in distances.items():
        found[f"confusions {name}"] = closeness_and_confusion(apart, confusion)[0]
    return found


def planted(study: Study, record: Trained) -> dict[str, float | None]:
    """Train the architecture on labels of which 20 % are wrong; return how well it finds them."""
    experiment = study.experiment
    found = plant_label_errors(
        lambda: study.untrained(record.genotype, record.seed),
        experiment.data,
        experiment.recipe,
        augmentation=experiment.dataset.augmentation,
        seed=record.seed,
        device=device(),
    )
    return {
        "mislabels activations": found.by_distance.found[INSPECTED],
        "mislabels loss": found.by_loss.found[INSPECTED],
        "mislabels auroc activations": found.by_distance.auroc,
        "mislabels auroc loss": found.by_loss.auroc,
    }


def repaired(study: Study, record: Trained) -> dict[str, float | None]:
    """Repair the most confused pair; return the share of its confusions removed by the repair and by its control."""
    experiment = study.experiment
    network, data = study.network(record), experiment.data
    found = repair(
        network,
        data,
        most_confused_pair(network, data),
        experiment.recipe,
        augmentation=experiment.dataset.augmentation,
        seeds=[record.seed],
        device=device(),
    )
    if not found.before.confusions:
        return {"repair": None, "repair control": None}
    before = found.before.confusions
    left = found.repaired[0].confusions / before, found.controls[0].confusions / before
    return {"repair": 1 - left[0], "repair control": 1 - left[1]}


def most_confused_pair(network: nn.Sequential, data: SearchData) -> tuple[int, int]:
    """Return the two classes that `network` confuses most often on the validation images."""
    pixels, labels = pixels_of(data.validation, data)
    with torch.no_grad():
        predicted = torch.cat([network(batch).argmax(dim=1) for batch in torch.split(pixels, 256)])
    folded = np.triu(
        symmetric_confusion(confusion_matrix(labels.cpu().numpy(), predicted.cpu().numpy(), data.n_classes)), k=1
    )
    first, second = np.unravel_index(folded.argmax(), folded.shape)
    return (int(first), int(second)) if folded.any() else (0, 1)
