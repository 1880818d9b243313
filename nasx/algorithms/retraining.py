"""Re-training: spending part of the budget on further trainings of networks whose place on the front is open.

A front of single trainings is a front of lucky networks. So the next evaluation is either a new network or one more
training of a known one. Source of the trade-off: "search or allocation", as in Jin and Branke, "Evolutionary
optimization in uncertain environments", 2005.

The network to train again is the one with the largest p (2 - p) / n: p its probability of being on the front, n its
trainings. It is the sum of two reasons: p (1 - p), whether it belongs to the front is open; and p, the values of a
member are what the front promises, so that they must be known. By the first alone, members that were trained once and
lucky stay on the front: the promised hypervolume was .060 too high after 128 trainings, by both .040, and users lost
.047 and .041 after 256 (`scripts.bench.noisy_search`, main problem, seeds 0-15).
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.random import Generator

from nasx import pareto
from nasx.algorithms.surrogate import Surrogate
from nasx.errors import SettingError

Share = Literal["auto"] | float

MAX_SHARE: Final = 0.75
MAX_AUTO: Final = 0.6  # the largest share by itself
GAIN: Final = 0.7  # share for each unit of openness; .4 to 1.5 differ little (scripts.bench.noisy_search)
FIRST: Final = 6  # answers before the first network is trained again
EARLY: Final = 20  # answers within which the first `REPEATED` re-trainings are done, to know the noise early
REPEATED: Final = 6


def check_share(value: Share) -> None:
    """Raise SettingError if the setting `retraining` is neither "auto" nor a share in [0, MAX_SHARE]."""
    if value != "auto" and not (isinstance(value, int | float) and 0 <= value <= MAX_SHARE):
        raise SettingError("retraining", f"must be auto, or a share between 0 and {MAX_SHARE}, got {value}")


def wanted_share(surrogate: Surrogate, setting: Share) -> float:
    """The share of the next trainings that re-train known networks.

    "auto": by how open the front is. The expected number of networks whose membership is decided wrongly, relative to
    the size of the front, is 0 if there is no noise, whatever the noise is measured against.
    """
    if surrogate.is_exact:
        return 0.0
    if setting != "auto":
        return float(setting)
    chances = surrogate.front_chances()
    openness = float((chances * (1 - chances)).sum() / max(chances.sum(), 1.0))
    return min(MAX_AUTO, GAIN * openness)


def is_due_early(surrogate: Surrogate, n_asked: int, n_retrained: int, setting: Share) -> bool:
    """Whether one of the first re-trainings is due, by which the noise is known before much depends on it."""
    if setting == 0 or n_retrained >= REPEATED or not FIRST <= n_asked < EARLY:
        return False
    return n_retrained < (n_asked - FIRST + 1) * REPEATED / (EARLY - FIRST)


def choose(surrogate: Surrogate, asked: np.ndarray, rng: Generator) -> int:
    """The place, in the surrogate, of the network to train again.

    `asked` (n_networks,): trainings of each that were asked for, answered or not.
    """
    if surrogate.models:
        chances = surrogate.front_chances()
        worth = chances * (2 - chances) / asked
        if worth.max() > 0:
            return int(np.argmax(worth))
    # no model yet: the front member that was trained least
    front = np.flatnonzero(pareto.front_mask(surrogate.means))
    least = front[asked[front] == asked[front].min()]
    return int(least[rng.integers(len(least))])
