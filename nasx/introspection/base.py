"""Base of nasx's scorers: class distances to a `Score`, and batches that fit into memory."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.data.batches import Pixels
from nasx.errors import TrialFailure
from nasx.introspection.class_similarity import ClassSimilarity
from nasx.introspection.similarity import introspectability
from nasx.trial import Reason, Score


class BatchedScorer(ABC):
    """Base of scorers that index their images batch by batch: as `Pixels` they need not fit into memory as float32."""

    parts: int = 1  # batches are this many times smaller than by default
    similarity: ClassSimilarity | None = None  # weights of the class pairs; None: all are 1

    @abstractmethod
    def score(
        self, network: nn.Sequential, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int
    ) -> Score:
        """Return the score of a trained network; see `nasx.protocols.Scorer`."""

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise DataError if the class similarities are not those of the dataset's classes, in the same order."""
        if self.similarity is not None:
            self.similarity.check_names(class_names)

    def in_parts(self, parts: int) -> Self:
        """Return a copy with batches `parts` times smaller, to save memory. Scores differ by rounding only."""
        smaller = copy.copy(self)
        smaller.parts = parts
        return smaller

    def _part_of(self, batch_size: int) -> int:
        return max(1, batch_size // self.parts)


def make_score(
    scorer: str,
    distances: NDArray[np.float64],
    layers: Mapping[str, NDArray[np.float64]],
    *,
    weights: NDArray[np.float64] | None,
    n_samples: int,
    started: float,
    completeness_error: float | None = None,
) -> Score:
    """Return the score whose value is the weighted mean of the class distances.

    Args:
        scorer: name under which the score is recorded.
        distances: class distances of the network, (n_classes, n_classes), NaN if a pair has none.
        layers: class distances of each layer, by its name; a layer without any is left out of the profile.
        weights: weights of the class pairs, (n_classes, n_classes). None: all are 1.
        n_samples: number of images used.
        started: start of the scoring by `time.perf_counter`.
        completeness_error: share of the logit gaps that the SHAP values miss. None: not SHAP.

    Raises:
        TrialFailure: with NO_SCORE, if no pair has a distance.
    """
    value = _introspectability(distances, weights)
    if value is None:
        raise TrialFailure(Reason.NO_SCORE, f"{scorer}: no pair of the {len(distances)} classes has a distance")
    profile = {name: _introspectability(matrix, weights) for name, matrix in layers.items()}
    return Score(
        scorer=scorer,
        value=value,
        profile={name: at_layer for name, at_layer in profile.items() if at_layer is not None},
        distances=distances,
        n_samples=n_samples,
        seconds=time.perf_counter() - started,
        completeness_error=completeness_error,
    )


def _introspectability(distances: NDArray[np.float64], weights: NDArray[np.float64] | None) -> float | None:
    try:
        return introspectability(distances, weights)
    except ValueError:
        return None
