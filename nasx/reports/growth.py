"""How fast a search found what it found: the hypervolume of the networks known after each trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasx import pareto
from nasx.reports.summary import FrontSummary
from nasx.trial import Trial, costs


def hypervolume_growth(
    trials: Sequence[Trial], summary: FrontSummary, reference: Sequence[float | None] | None = None
) -> list[float]:
    """Return the hypervolume of the networks known after 1, 2, ... trials, by their estimates in `summary`.

    All networks are judged by what is known of them at the end, not by what was observed at the time: the best of many
    noisy values is partly luck, so a curve of observed values grows without anything better being found. The curve ends
    at the hypervolume of the summary's front. A trial that adds no complete network (it failed, or it trains a known
    network again) adds nothing.

    Args:
        trials: of any number of networks, in any order; they are taken in the order of finishing.
        summary: of the same trials.
        reference: the objectives' own values that hypervolume is measured from; None: the summary's. If it lacks a
            value, every volume is 0.
    """
    objectives = summary.objectives
    reference = summary.reference if reference is None else reference
    corner = [o.sign * r for o, r in zip(objectives, reference, strict=True) if r is not None]
    points = {a.arch_id: np.array(costs(a.metrics, objectives)) for a in summary.architectures}
    front = np.empty((0, len(objectives)))
    volume, volumes = 0.0, []
    for trial in in_order(trials):
        point = points.pop(trial.arch_id, None) if trial.is_complete else None
        if point is not None and len(corner) == len(objectives) and not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volume = pareto.hypervolume(front, corner)
        volumes.append(volume)
    return volumes


def in_order(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials in the order of finishing."""
    return sorted(trials, key=lambda t: (t.finished, t.candidate.number, t.replicate))
