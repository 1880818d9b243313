"""Data of one network for the report, as plain JSON values: metrics, scores, reason of a failure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasx.reports.summary import ArchitectureResult
from nasx.reports.text import clean
from nasx.trial import Score, Trial

SHOWN_PAIRS = 5  # closest and farthest ones each, if not all pairs are included
MAX_DETAIL = 600  # characters of a failure's message; `nasx runs show` prints all of it


class LayerTable:
    """Table of lists of layer names, each stored once: most networks have the same."""

    def __init__(self) -> None:
        self.values: list[list[str]] = []
        self._indices: dict[tuple[str, ...], int] = {}

    def index(self, names: Sequence[str]) -> int:
        """Return the index of a list in `values`; add it if it is new."""
        key = tuple(clean(name) for name in names)
        if key not in self._indices:
            self._indices[key] = len(self.values)
            self.values.append(list(key))
        return self._indices[key]


def network_data(
    trials: Sequence[Trial], result: ArchitectureResult | None, layers: LayerTable, *, all_pairs: bool
) -> dict[str, Any]:
    """Return one network as plain JSON values.

    Args:
        trials: all of the network, sorted by the time at which they finished.
        result: of the network; None: no trial is complete, and the first one is shown.
        layers: table of layer names; new lists are added.
        all_pairs: whether the distances of all pairs of classes are included.
    """
    first = next((t for t in trials if t.is_complete), trials[0])
    candidate = first_training(trials).candidate
    metrics = dict(result.metrics if result else first.metrics)
    metrics |= {"train_seconds": float(np.mean([t.evaluation.train_seconds for t in trials]))}
    std = result.std if result else {}
    observed = {name: result.observed[name] for name in std} if result else {}
    return {
        "id": first.arch_id,
        "generation": candidate.generation,
        "operator": candidate.operator,
        "status": str(first.status),
        "reason": str(first.evaluation.reason or ""),
        "detail": first.evaluation.detail.strip()[-MAX_DETAIL:],
        "architecture": first.architecture,
        "trainings": len(trials),
        "failed_trainings": sum(not t.is_complete for t in trials),
        "p_front": rounded(result.front_probability) if result else None,
        "metrics": _rounded(metrics),
        "std": _rounded({name: value for name, value in std.items() if value}),  # exact values have none
        "observed": _rounded({name: value for name, value in observed.items() if std[name]}),
        "scores": [_score(score, layers, all_pairs=all_pairs) for score in first.evaluation.scores],
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float | int | None]:
    """Round to more digits than are shown: rounding twice would turn 0.017847 into 1.79 % instead of 1.78 %."""
    return {name: rounded(value, 8) for name, value in values.items()}


def first_training(trials: Sequence[Trial]) -> Trial:
    """Return the first training of a network: its candidate contains the network's parents."""
    return min(trials, key=lambda t: t.replicate)


def _score(score: Score, layers: LayerTable, *, all_pairs: bool) -> dict[str, Any]:
    upper = score.distances[np.triu_indices(len(score.distances), k=1)]
    record: dict[str, Any] = {
        "scorer": clean(score.scorer),
        "value": rounded(score.value),
        "layers": layers.index(list(score.profile)),
        "profile": [rounded(v, 3) for v in score.profile.values()],
        "samples": score.n_samples,
        "completeness_error": None if score.completeness_error is None else rounded(score.completeness_error, 3),
    }
    if all_pairs:
        # in thousandths: these are most numbers of a report, and a third shorter so
        return record | {"thousandths": [rounded(1000 * v, 0) for v in upper.tolist()]}
    return record | dict(zip(("closest", "farthest"), _extremes(upper, len(score.distances)), strict=True))


def _extremes(upper: NDArray[np.float64], n_classes: int) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the closest and the farthest pairs as [first class, second class, distance]."""
    first, second = np.triu_indices(n_classes, k=1)
    known = np.flatnonzero(np.isfinite(upper))
    order = known[np.argsort(upper[known], kind="stable")]
    pairs = [[int(first[i]), int(second[i]), rounded(float(upper[i]), 3)] for i in order]
    return pairs[:SHOWN_PAIRS], pairs[: -SHOWN_PAIRS - 1 : -1]


def rounded(value: float, digits: int = 5) -> float | int | None:
    """Return a rounded number for JSON; None if it is not finite."""
    if not math.isfinite(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() else round(number, digits)
