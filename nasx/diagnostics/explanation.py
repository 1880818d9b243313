"""Explanation of a trained network as plain data: made by `nasx.diagnostics.explain`, shown by `nasx.reports`.

It does not need torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from nasx.diagnostics.class_pairs import ClassMap, ClassPair, class_pairs
from nasx.diagnostics.class_report import ClassReport
from nasx.networks.edge import Edge
from nasx.trial import Score


class SampleKind(StrEnum):
    """Reason for which a sample is shown."""

    CORRECT = "correct"  # correctly classified: the evidence for a class
    INCORRECT = "incorrect"  # incorrectly classified, the most confident first
    UNCERTAIN = "uncertain"  # correctly classified, the least confident first


@dataclass(frozen=True, eq=False)
class ExplainedSample:
    """Validation image with the evidence for its predicted class and for its rival, if there is one."""

    kind: SampleKind
    index: int  # in the validation images
    image: NDArray[np.uint8]  # (channels, height, width)
    label: int
    predicted: int
    confidence: float  # softmax probability of the predicted class
    # class -> SHAP values of that class's logit, (height, width), summed over the image's channels
    attributions: Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of a trained network on the validation images."""

    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]  # (n_classes, n_classes) images by true (row) and predicted (column) class
    score: Score  # by the scorer that `layer_distances` come from
    layer_distances: Mapping[str, NDArray[np.float64]]  # layer -> (n_classes, n_classes), from input to output
    samples: tuple[ExplainedSample, ...]
    maps: tuple[ClassMap, ...] = ()  # the classes after each stage
    # block -> (n_classes,) activity by class, in standard deviations over the classes
    activity: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    edge_shares: Mapping[Edge, float] = field(default_factory=dict)  # share of the conductance; empty: no cells
    has_backbone: bool = False  # cells are on top of a backbone, and `edge_shares` those of paths behind it
    draws: int = 0  # gradients per image and class from which the SHAP values of samples are estimated; 0: unknown
    completeness: float = 0.0  # their completeness error, see `nasx.introspection.shap.completeness_error`

    @property
    def n_images(self) -> int:
        """Return the number of validation images."""
        return int(self.confusion.sum())

    @property
    def n_errors(self) -> int:
        """Return the number of incorrect predictions."""
        return int(self.confusion.sum() - np.trace(self.confusion))

    def report(self) -> ClassReport:
        """Return recall and precision of each class."""
        return ClassReport(self.class_names, self.confusion)

    def pairs(self) -> list[ClassPair]:
        """Return all pairs of classes, the closest first."""
        return class_pairs(self.score.distances, self.confusion, self.layer_distances)

    def of_kind(self, kind: SampleKind) -> list[ExplainedSample]:
        """Return the samples of a kind."""
        return [s for s in self.samples if s.kind is kind]
