"""How a search got on: the hypervolume that its front had reached after each trial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nasx import pareto
from nasx.trial import Objective, Trial, costs


def hypervolume_growth(
    trials: Iterable[Trial], objectives: Sequence[Objective], reference: Sequence[float | None]
) -> list[float]:
    """The hypervolume after 1, 2, ... networks, counting each network's first training, in the order given.

    `reference`: the objectives' own values that hypervolume is measured from; None, where no trial gives one, makes
    every volume 0. A trial that is not complete adds nothing.
    """
    firsts = {t.arch_id: t for t in reversed(list(trials)) if t.replicate == 0}  # the first of each, backwards
    corner = [o.sign * r for o, r in zip(objectives, reference, strict=True) if r is not None]
    front = np.empty((0, len(objectives)))
    volume, volumes = 0.0, []
    for trial in reversed(firsts.values()):
        point = np.array(costs(trial.metrics, objectives)) if trial.is_complete else None
        if point is not None and len(corner) == len(objectives) and not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volume = pareto.hypervolume(front, corner)
        volumes.append(volume)
    return volumes
