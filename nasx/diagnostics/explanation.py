"""What there is to say about one trained network, as plain data: gathered by `nasx.diagnostics.explain`, told and drawn
by `nasx.reports`. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from nasx.diagnostics.class_pairs import ClassMap, ClassPair, class_pairs
from nasx.networks.edge import Edge
from nasx.trial import Score


class SampleKind(StrEnum):
    """Why a sample is shown."""

    RIGHT = "right"  # classified rightly: what a class rests on
    WRONG = "wrong"  # classified wrongly, the most confident first
    UNSURE = "unsure"  # classified rightly, with the least confidence


@dataclass(frozen=True, eq=False)
class ExplainedSample:
    """One validation image with what speaks for its class and, where there is a rival, for the rival."""

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
    """One trained network, explained on validation images."""

    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]  # (n_classes, n_classes) images by true (row) and predicted (column) class
    score: Score  # by the scorer that `layer_distances` come from
    layer_distances: Mapping[str, NDArray[np.float64]]  # layer -> (n_classes, n_classes), from input to output
    samples: tuple[ExplainedSample, ...]
    maps: tuple[ClassMap, ...] = ()  # the classes after each stage
    # block -> (n_classes,) how strongly each class drives it, in standard deviations over the classes
    activity: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    edge_shares: Mapping[Edge, float] = field(default_factory=dict)  # of what the cells carry; empty: no cells

    @property
    def n_images(self) -> int:
        return int(self.confusion.sum())

    @property
    def n_errors(self) -> int:
        return int(self.confusion.sum() - np.trace(self.confusion))

    def pairs(self) -> list[ClassPair]:
        """All pairs of classes, the closest first."""
        return class_pairs(self.score.distances, self.confusion, self.layer_distances)

    def of_kind(self, kind: SampleKind) -> list[ExplainedSample]:
        return [s for s in self.samples if s.kind is kind]
