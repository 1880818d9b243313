"""From class distances to the record of a score: what all scorers share."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nasx.errors import TrialFailure
from nasx.introspection.similarity import introspectability
from nasx.trial import Reason, Score


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
