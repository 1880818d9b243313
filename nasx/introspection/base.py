"""Shared by all scorers: from class distances to a `Score`, and batches that fit into memory."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.data.batches import Pixels
from nasx.errors import TrialFailure
from nasx.introspection.similarity import introspectability
from nasx.trial import Reason, Score


class BatchedScorer(ABC):
    """A scorer that indexes its images batch by batch: as `Pixels` they need not fit into memory as float32."""

    parts: int = 1  # into so many parts each batch is split

    @abstractmethod
    def score(
        self, network: nn.Sequential, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int
    ) -> Score:
        """The score of a trained network; see `nasx.protocols.Scorer`."""

    def in_parts(self, parts: int) -> Self:
        """A copy that needs less memory: its batches are `parts` times smaller. Scores differ by rounding only."""
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
    """The score whose value is the (weighted) mean over pairs of `distances`, (n_classes, n_classes).

    `layers` maps each layer's name to its own distances; a layer that holds no pair of classes apart is left out of the
    profile. `started` is when scoring began, by `time.perf_counter`.
    Raises TrialFailure(NO_SCORE) where no pair has a distance.
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
