"""Re-training: part of the budget trains known networks again if their membership of the front is uncertain.

A front of single trainings consists of lucky networks. So the next evaluation is either a new network or one more
training of a known one. Source of this trade-off: Jin and Branke, "Evolutionary optimization in uncertain
environments", 2005.

The network with the largest p (2 - p) / n is trained again: p is its probability of being on the front, n its number
of trainings. p (2 - p) is the sum of two terms: p (1 - p), the uncertainty of its membership, and p, because the
values of members must be accurate. With the first term only, lucky members of one training stay on the front: the
hypervolume of the front was .060 too high after 128 trainings (.040 with both terms), and the loss of true hypervolume
was .047 (.041) after 256 (`scripts.bench.noisy_search`, main problem, seeds 0-15).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from nasx import pareto
from nasx.algorithms.surrogate import Surrogate

MAX_SHARE: Final = 0.75
Share = Literal["auto"] | Annotated[float, Field(ge=0, le=MAX_SHARE)]  # of the trainings
MAX_AUTO: Final = 0.6  # the largest share that "auto" chooses
GAIN: Final = 0.7  # share per unit of uncertainty; .4 to 1.5 differ little (scripts.bench.noisy_search)
FIRST: Final = 6  # results before the first network is trained again
EARLY: Final = 20  # results within which the first `REPEATED` re-trainings are done, for an early noise estimate
REPEATED: Final = 6


def target_share(surrogate: Surrogate, setting: Share) -> float:
    """Return the share of the next trainings that re-train known networks.

    "auto" is proportional to the uncertainty of the front: the expected number of networks whose membership is wrong,
    relative to the size of the front. It is 0 without noise.
    """
    if surrogate.is_exact:
        return 0.0
    if setting != "auto":
        return float(setting)
    probabilities = surrogate.front_probabilities()
    uncertainty = float((probabilities * (1 - probabilities)).sum() / max(probabilities.sum(), 1.0))
    return min(MAX_AUTO, GAIN * uncertainty)


def is_due_early(n_asked: int, n_retrained: int, setting: Share) -> bool:
    """Return whether one of the first `REPEATED` re-trainings is due, which estimate the noise.

    Args:
        n_asked: candidates proposed so far.
        n_retrained: re-trainings among them.
        setting: the setting `retraining`; 0: never.
    """
    if setting == 0 or n_retrained >= REPEATED or not FIRST <= n_asked < EARLY:
        return False
    return n_retrained < (n_asked - FIRST + 1) * REPEATED / (EARLY - FIRST)


def choose_network(surrogate: Surrogate, asked: np.ndarray, rng: Generator) -> int:
    """Return the index, in the surrogate, of the network to train again.

    Args:
        surrogate: of the search.
        asked: (n_networks,) trainings requested of each network, finished or not.
        rng: source of the draws.
    """
    if surrogate.models:
        probabilities = surrogate.front_probabilities()
        priority = probabilities * (2 - probabilities) / asked
        if priority.max() > 0:
            return int(np.argmax(priority))
    # no model yet: the member of the front with the fewest trainings
    front = np.flatnonzero(pareto.front_mask(surrogate.means))
    least = front[asked[front] == asked[front].min()]
    return int(least[rng.integers(len(least))])
