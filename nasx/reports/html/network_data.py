"""One network as the report shows it: figures, scores, and why it failed if it did, as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasx.reports.summary import ArchitectureResult
from nasx.reports.text import clean
from nasx.trial import Score, Trial

SHOWN_PAIRS = 5  # of the closest and of the farthest classes, if not all pairs are included
TOLD = 600  # characters of why a trial is not complete; `nasx runs show` prints the rest


class Interned:
    """Lists of layer names, each kept once: all networks of a kind share theirs."""

    def __init__(self) -> None:
        self.values: list[list[str]] = []
        self._places: dict[tuple[str, ...], int] = {}

    def place(self, names: Sequence[str]) -> int:
        key = tuple(clean(name) for name in names)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(list(key))
        return self._places[key]


def network_data(
    trials: Sequence[Trial], result: ArchitectureResult | None, layers: Interned, *, whole: bool
) -> dict[str, Any]:
    """Return one network as plain JSON values.

    Args:
        trials: all of the network, in the order of finishing.
        result: what is known of it from them; None: no trial is complete, and the first one is shown.
        layers: the lists of layer names of all networks.
        whole: whether the distances of all pairs of classes are included.
    """
    first = next((t for t in trials if t.is_complete), trials[0])
    candidate = origin(trials).candidate
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
        "detail": first.evaluation.detail.strip()[-TOLD:],
        "architecture": first.architecture,
        "trainings": len(trials),
        "failed_trainings": sum(not t.is_complete for t in trials),
        "p_front": rounded(result.front_probability) if result else None,
        "metrics": _rounded(metrics),
        "std": _rounded({name: value for name, value in std.items() if value}),  # an exact value has none
        "observed": _rounded({name: value for name, value in observed.items() if std[name]}),
        "scores": [_score(score, layers, whole=whole) for score in first.evaluation.scores],
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float | int | None]:
    """More digits than are shown: rounding twice would make 1.78 % of 0.017847 into 1.79 %."""
    return {name: rounded(value, 8) for name, value in values.items()}


def origin(trials: Sequence[Trial]) -> Trial:
    """Return the first training of a network, among its trials: its candidate says where the network comes from."""
    return min(trials, key=lambda t: t.replicate)


def _score(score: Score, layers: Interned, *, whole: bool) -> dict[str, Any]:
    upper = score.distances[np.triu_indices(len(score.distances), k=1)]
    record: dict[str, Any] = {
        "scorer": clean(score.scorer),
        "value": rounded(score.value),
        "layers": layers.place(list(score.profile)),
        "profile": [rounded(v, 3) for v in score.profile.values()],
        "samples": score.n_samples,
        "completeness_error": None if score.completeness_error is None else rounded(score.completeness_error, 3),
    }
    if whole:
        # as thousandths: a third fewer characters, and most of a report's figures are these
        return record | {"thousandths": [rounded(1000 * v, 0) for v in upper.tolist()]}
    return record | dict(zip(("closest", "farthest"), _extremes(upper, len(score.distances)), strict=True))


def _extremes(upper: NDArray[np.float64], n_classes: int) -> tuple[list[list[Any]], list[list[Any]]]:
    """The closest and the farthest pairs as [first class, second class, distance]."""
    first, second = np.triu_indices(n_classes, k=1)
    known = np.flatnonzero(np.isfinite(upper))
    order = known[np.argsort(upper[known], kind="stable")]
    pairs = [[int(first[i]), int(second[i]), rounded(float(upper[i]), 3)] for i in order]
    return pairs[:SHOWN_PAIRS], pairs[: -SHOWN_PAIRS - 1 : -1]


def rounded(value: float, digits: int = 5) -> float | int | None:
    """Return a number as JSON knows it, rounded; None if it is not finite."""
    if not math.isfinite(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() else round(number, digits)
