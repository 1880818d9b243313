"""What every search algorithm shares: numbered questions, answers taken in a repeatable order, no network asked twice.

An algorithm would not be repeatable if it bred from whatever happens to have been answered: that depends on how fast
the workers are. So candidate k is bred from the answers 0 .. `horizon(k)` - 1 and from nothing else, taken in the
order of their numbers; until they are all known, `ask` gives None. Generations are one horizon, a steady state that
runs some candidates behind (a lag) is another. Every candidate draws from a generator of its own, seeded by (seed,
number).
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.random import Generator

from nasx.algorithms.gaussian_process import Features
from nasx.algorithms.operators import uniform
from nasx.algorithms.retraining import Share, check_share, choose, is_due_early, wanted_share
from nasx.algorithms.surrogate import Surrogate
from nasx.errors import SettingError
from nasx.protocols import Problem
from nasx.trial import Candidate, Genotype, derive_seed

Mode = Literal["auto", "steady_state", "generational", "free_running"]

RETRAINING = "retraining"  # operator of the candidates that train a known network again
TRIES_PER_CHANGE = 8  # proposals that are known or disconnected, before one more gene is changed
UNIFORM_TRIES = 100  # uniform draws after that, before a known network is asked again
RAMP = 0.75  # the lag is at most this share of the candidates asked, beyond one for each worker
REPEATABLE_WORKERS = (
    2  # up to here a lag costs nothing; from 3 on waiting for it halves the speed (scripts.bench.scale)
)
KEYS_REMEMBERED = 2**17  # canonical forms kept, about 30 MB: far cheaper than deriving them again


@dataclass(frozen=True)
class Proposal:
    """A genotype and how it was made: a `Candidate` without its number."""

    genotype: Genotype
    operator: str
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """Which answers a candidate is bred from."""

    mode: Mode
    generation: int = sys.maxsize  # candidates a generation; by default all are of the first
    lag: int = 1  # steady state: candidate k is bred from the answers up to k - lag
    first_lag: int = sys.maxsize  # the lag starts from here, where that is less, and grows by RAMP

    @classmethod
    def of(cls, mode: Mode, lag: int | None, workers: int, generation: int = sys.maxsize) -> Schedule:
        """The schedule that a config asks for; a lag of None grows to `default_lag`.

        "auto" is the repeatable steady state if a lag is given or up to `REPEATABLE_WORKERS` work, else free running.
        Raises SettingError for a lag below 1.
        """
        if mode == "auto":
            mode = "steady_state" if lag is not None or workers <= REPEATABLE_WORKERS else "free_running"
        if lag is None:
            return cls(mode, generation, default_lag(workers), first_lag=workers)
        at_least("lag", lag, 1)
        return cls(mode, generation, lag)

    def horizon(self, number: int) -> int:
        """How many answers must be known, and are taken in, before candidate `number` is made.

        >>> [Schedule("generational", 4).horizon(k) for k in (3, 4, 7, 8)]
        [0, 4, 4, 8]
        >>> [Schedule("steady_state", 4, lag=3).horizon(k) for k in (0, 2, 3, 8)]
        [0, 0, 1, 6]
        >>> [Schedule("steady_state", lag=60, first_lag=4).horizon(k) for k in (4, 8, 40, 80, 200)]
        [1, 3, 11, 21, 141]
        """
        if self.mode == "generational":
            return number - number % self.generation
        lag = min(self.lag, max(self.first_lag, int(RAMP * number)))
        return max(0, number - lag + 1) if self.mode == "steady_state" else 0


def default_lag(workers: int) -> int:
    """The lag that keeps `workers` busy: one answer late makes everybody wait only once the lag is used up.

    Long enough for 97 % of the workers' time with trial times that are log-normal with sigma 0.8
    (`scripts/bench/scale.py`). So long a lag would leave a small search to chance, hence `RAMP`: early candidates wait
    rather than know nothing. From some hundred workers on, breeding in order of arrival ("free_running") is the better
    choice.

    >>> [default_lag(workers) for workers in (1, 2, 4, 64)]
    [1, 6, 22, 992]
    """
    return 1 if workers == 1 else round(workers * (0.5 + 2.5 * math.log2(workers)))


class Algorithm(ABC):
    """Base of every search algorithm; see `nasx.protocols.SearchAlgorithm` for the contract.

    Subclasses define how a candidate is made (`_propose`) and what the first training of a network changes (`_absorb`).
    Re-training is done here: `_estimate` then returns what all trainings of a network say together.

    Args:
        retraining: share of the trainings that re-train known networks, or "auto": as the noise requires.
        modeled: whether a subclass uses the surrogate even if nothing is trained again.
    """

    def __init__(self, schedule: Schedule, problem: Problem, retraining: Share = 0.0, *, modeled: bool = False) -> None:
        check_share(retraining)
        self.schedule = schedule
        self.gene_sizes = problem.gene_sizes
        self.n_objectives = problem.n_objectives
        self.seed = problem.seed
        self.retraining: Share = retraining if problem.is_noisy else 0.0
        self._key = lru_cache(KEYS_REMEMBERED)(lambda g: problem.key(g) if problem.is_connected(g) else None)
        self._known: set[Genotype | None] = {None}  # keys of all that was asked; None stands for what is no network
        self._first: dict[Genotype, int] = {}  # key of each network -> number of the candidate that asked for it first
        self._trainings: Counter[Genotype] = Counter()  # trainings asked of the networks that were trained again
        self._n_asked = 0
        self._n_absorbed = 0
        self._n_retrained = 0  # asked
        self._open: dict[int, Candidate] = {}  # asked, not yet absorbed
        self._answers: dict[int, tuple[float, ...] | None] = {}  # told, not yet absorbed
        self._heard: list[int] = []  # absorbed since the last candidate
        self._surrogate: Surrogate | None = None
        if modeled or self.retraining != 0:
            features = Features(problem.alleles) if problem.alleles else Features.of_sizes(problem.gene_sizes)
            known = problem.exact or (False,) * problem.n_objectives
            exact = tuple(is_exact or not problem.is_noisy for is_exact in known)
            self._surrogate = Surrogate(features, exact, seed=derive_seed(self.seed, "surrogate"))

    def ask(self) -> Candidate | None:
        number = self._n_asked
        if not self._take_in_answers(number):
            return None
        again = self._retrained(number)
        if again is None:
            proposal, replicate = (
                self._draw(number, np.random.default_rng(derive_seed(self.seed, "candidate", number))),
                0,
            )
        else:
            proposal = Proposal(again, RETRAINING, (self._first[again],))
            replicate = max(1, self._trainings[again])
        generation = number // self.schedule.generation
        candidate = Candidate(
            number, proposal.genotype, generation, proposal.operator, proposal.parents, tuple(self._heard), replicate
        )
        self._register(candidate)
        return candidate

    def replay(self, candidate: Candidate) -> None:
        """Take a recorded candidate as the next one asked, in place of `ask`: the search that recorded it is resumed.

        Every answer that it was bred from must have been reported by `tell`.
        """
        if candidate.number != self._n_asked:
            raise ValueError(f"candidate {candidate.number} does not follow candidate {self._n_asked - 1}")
        if not self._take_in_answers(candidate.number):
            raise ValueError(f"candidate {candidate.number} was bred from an answer that is missing")
        self._register(candidate)

    def _take_in_answers(self, number: int) -> bool:
        """Absorb the answers that candidate `number` is bred from; False if one of them is not there yet."""
        horizon = self.schedule.horizon(number)
        while self._n_absorbed < horizon:
            if self._n_absorbed not in self._answers:
                return False
            self._absorb_answer(self._n_absorbed)
        return True

    def _register(self, candidate: Candidate) -> None:
        self._heard.clear()
        key = self._key(candidate.genotype)
        self._known.add(key)
        if key is not None:
            self._first.setdefault(key, candidate.number)
        if candidate.replicate > 0 and key is not None:
            self._trainings[key] = candidate.replicate + 1
            self._n_retrained += 1
        self._open[candidate.number] = candidate
        self._n_asked += 1

    def tell(self, number: int, costs: Sequence[float] | None) -> None:
        if number not in self._open or number in self._answers:
            raise ValueError(f"candidate {number} was never asked, or has been answered before")
        if costs is not None:
            costs = tuple(float(cost) for cost in costs)
            if len(costs) != self.n_objectives or not all(map(math.isfinite, costs)):
                raise ValueError(f"candidate {number} needs {self.n_objectives} finite costs or None, got {costs}")
        self._answers[number] = costs
        if self.schedule.mode == "free_running":
            self._absorb_answer(number)

    def _absorb_answer(self, number: int) -> None:
        self._n_absorbed += 1
        self._heard.append(number)
        candidate, costs = self._open.pop(number), self._answers.pop(number)
        key = self._canonical(candidate.genotype)
        # a space without new networks is asked again for known ones: the answer is that of their first training
        is_known = candidate.replicate == 0 and self._first.get(key, number) != number
        if self._surrogate is not None and costs is not None and not is_known:
            self._surrogate.learn(key, costs)
        if candidate.replicate == 0:
            self._absorb(candidate, costs)

    def _retrained(self, number: int) -> Genotype | None:
        """The network that candidate `number` trains again; None if it is to be a new one."""
        surrogate = self._surrogate
        if surrogate is None or self.retraining == 0 or len(surrogate.keys) < 2:
            return None
        rng = np.random.default_rng(derive_seed(self.seed, "retraining", number))
        if not is_due_early(surrogate, number, self._n_retrained, self.retraining):
            if not surrogate.models or rng.random() >= wanted_share(surrogate, self.retraining):
                return None
        elif surrogate.is_exact:
            return None
        asked = np.array([max(1, self._trainings[key]) for key in surrogate.keys])
        return surrogate.keys[choose(surrogate, asked, rng)]

    def _estimate(self, genotype: Genotype, costs: tuple[float, ...]) -> tuple[float, ...]:
        """The true costs of a network by all answers so far; `costs`, of its first training, if it is not modeled."""
        estimate = None if self._surrogate is None else self._surrogate.estimate(self._canonical(genotype))
        return costs if estimate is None else estimate

    def _draw(self, number: int, rng: Generator) -> Proposal:
        """A proposal that was never asked and is a network, as far as a bounded number of tries can find one.

        More and more genes are changed, then all of them. What comes after that is known: a search has its answer.
        """
        for attempt in range(TRIES_PER_CHANGE * len(self.gene_sizes)):
            proposal = self._propose(number, rng, 1 + attempt // TRIES_PER_CHANGE)
            if self._is_new(proposal.genotype):
                return proposal
        for _ in range(UNIFORM_TRIES):
            proposal = Proposal(uniform(self.gene_sizes, rng), "random")
            if self._is_new(proposal.genotype):
                break
        return proposal

    def _is_new(self, genotype: Genotype) -> bool:
        """Whether it is a network that was never asked."""
        return self._key(genotype) not in self._known

    def _canonical(self, genotype: Genotype) -> Genotype:
        """The key of a network; what is none stands for itself."""
        return self._key(genotype) or genotype

    @abstractmethod
    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        """What might be asked next. `changes` counts from 1 and grows as long as only known networks are proposed."""

    @abstractmethod
    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        """Take in the first training of a network; None: it has no costs and must have no offspring."""


def at_least(name: str, value: float, low: float) -> None:
    """Raises SettingError if the setting `name` is smaller than `low`."""
    if not value >= low:
        raise SettingError(name, f"must be at least {low}, got {value}")


def share(name: str, value: float) -> None:
    """Raises SettingError if the setting `name` is not a share in [0, 1]."""
    if not 0 <= value <= 1:
        raise SettingError(name, f"must be between 0 and 1, got {value}")
