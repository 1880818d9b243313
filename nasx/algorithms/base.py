"""Base of the search algorithms: numbered candidates, results used in a repeatable order, no network proposed twice.

If candidates depended on all results that happen to be there, a search would depend on the speed of the workers.
Instead candidate k depends on the results 0 .. `horizon(k)` - 1 only, in the order of their numbers; until all of them
are reported, `ask` returns None. Generations are one schedule; a steady state that trails by some candidates (a lag) is
another. Every candidate has its own random generator, seeded by (seed, number).
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from nasx.algorithms.gaussian_process import Features
from nasx.algorithms.operators import uniform
from nasx.algorithms.retraining import Share, choose_network, is_due_early, target_share
from nasx.algorithms.surrogate import Surrogate
from nasx.protocols import Problem
from nasx.trial import Candidate, Genotype, derive_seed

Mode = Literal["auto", "steady_state", "generational", "free_running"]
Lag = Annotated[int, Field(ge=1)]  # candidate k depends on the results up to k - lag

WARM_START = "warm_start"  # operator of candidates from the front of another run
RETRAINING = "retraining"  # operator of the candidates that train a known network again
TRIES_PER_CHANGE = 8  # known or disconnected proposals before one more gene is changed
UNIFORM_TRIES = 100  # uniform draws after that, before a known network is proposed again
MAX_LAG_SHARE = 0.75  # the lag is at most this share of the candidates proposed, beyond one per worker
# With up to 2 workers a lag costs nothing; with 3 or more, waiting for results halves the speed (scripts.bench.scale)
REPEATABLE_WORKERS = 2
KEY_CACHE_SIZE = 2**17  # canonical forms, about 30 MB: much cheaper than deriving them again


@dataclass(frozen=True)
class Proposal:
    """A genotype and its origin: a `Candidate` without its number."""

    genotype: Genotype
    operator: str
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """The results that each candidate depends on."""

    mode: Mode
    generation: int = sys.maxsize  # candidates per generation; by default all belong to the first
    lag: int = 1  # steady state: candidate k depends on the results up to k - lag
    first_lag: int = sys.maxsize  # initial lag, if less than `lag`; it grows by MAX_LAG_SHARE per candidate

    @classmethod
    def of(cls, mode: Mode, lag: int | None, workers: int, generation: int = sys.maxsize) -> Schedule:
        """Return the schedule of a config.

        Args:
            mode: "auto" is the repeatable steady state if a lag is given or there are at most `REPEATABLE_WORKERS`
                workers, else free running.
            lag: at least 1; None: grows to `default_lag`.
            workers: trials at a time.
            generation: candidates per generation.
        """
        if mode == "auto":
            mode = "steady_state" if lag is not None or workers <= REPEATABLE_WORKERS else "free_running"
        if lag is None:
            return cls(mode, generation, default_lag(workers), first_lag=workers)
        return cls(mode, generation, lag)

    def horizon(self, number: int) -> int:
        """Return the number of results that candidate `number` depends on.

        >>> [Schedule("generational", 4).horizon(k) for k in (3, 4, 7, 8)]
        [0, 4, 4, 8]
        >>> [Schedule("steady_state", 4, lag=3).horizon(k) for k in (0, 2, 3, 8)]
        [0, 0, 1, 6]
        >>> [Schedule("steady_state", lag=60, first_lag=4).horizon(k) for k in (4, 8, 40, 80, 200)]
        [1, 3, 11, 21, 141]
        """
        if self.mode == "generational":
            return number - number % self.generation
        lag = min(self.lag, max(self.first_lag, int(MAX_LAG_SHARE * number)))
        return max(0, number - lag + 1) if self.mode == "steady_state" else 0


def default_lag(workers: int) -> int:
    """Return the lag that keeps `workers` busy although trials differ in their duration.

    Workers are busy for 97 % of the time if durations are log-normal with sigma 0.8 (`scripts/bench/scale.py`). With
    such a long lag a small search would be mostly random; `MAX_LAG_SHARE` therefore limits the lag of early candidates.
    With several hundred workers, "free_running" is the better choice.

    >>> [default_lag(workers) for workers in (1, 2, 4, 64)]
    [1, 6, 22, 992]
    """
    return 1 if workers == 1 else round(workers * (0.5 + 2.5 * math.log2(workers)))


class Algorithm(ABC):
    """Base of every search algorithm; `nasx.protocols.SearchAlgorithm` is the contract.

    Subclasses define how candidates are proposed (`_propose`) and what the first result of a network changes
    (`_absorb`). Re-training is implemented here; `_estimate` combines all trainings of a network.

    Args:
        schedule: the results that each candidate depends on.
        problem: gene sizes, objectives and seed.
        retraining: share of the trainings that re-train known networks, or "auto": depends on the noise.
        modeled: True if the subclass needs the surrogate even without re-training.
    """

    def __init__(self, schedule: Schedule, problem: Problem, retraining: Share = 0.0, *, modeled: bool = False) -> None:
        self.schedule = schedule
        self.gene_sizes = problem.gene_sizes
        self.n_objectives = problem.n_objectives
        self.seed = problem.seed
        self.initial = problem.initial
        self.retraining: Share = retraining if problem.is_noisy else 0.0
        self._key = lru_cache(KEY_CACHE_SIZE)(lambda g: problem.key(g) if problem.is_connected(g) else None)
        self._known: set[Genotype | None] = {None}  # keys of all candidates; None: the genotype is no network
        self._first: dict[Genotype, int] = {}  # key of each network -> number of its first candidate
        self._trainings: Counter[Genotype] = Counter()  # trainings requested of each re-trained network
        self._n_asked = 0
        self._n_absorbed = 0
        self._n_retrained = 0  # re-trainings requested
        self._open: dict[int, Candidate] = {}  # asked, not yet absorbed
        self._results: dict[int, tuple[float, ...] | None] = {}  # results, not yet absorbed
        self._heard: list[int] = []  # absorbed since the last candidate
        self._surrogate: Surrogate | None = None
        if modeled or self.retraining != 0:
            features = Features(problem.alleles) if problem.alleles else Features.of_sizes(problem.gene_sizes)
            known = problem.exact or (False,) * problem.n_objectives
            exact = tuple(is_exact or not problem.is_noisy for is_exact in known)
            self._surrogate = Surrogate(features, exact, seed=derive_seed(self.seed, "surrogate"))

    @property
    def depends_on_order(self) -> bool:
        """Return whether the same seed may lead to other candidates if costs arrive in another order."""
        return self.schedule.mode == "free_running"

    def ask(self) -> Candidate | None:
        """Return the next candidate; None if it depends on results that are not reported yet."""
        number = self._n_asked
        if not self._absorb_results(number):
            return None
        known = self._choose_retraining(number)
        if number < len(self.initial):
            proposal, replicate = Proposal(self.initial[number], WARM_START), 0
        elif known is None:
            rng = np.random.default_rng(derive_seed(self.seed, "candidate", number))
            proposal, replicate = self._draw(number, rng), 0
        else:
            proposal = Proposal(known, RETRAINING, (self._first[known],))
            replicate = max(1, self._trainings[known])
        generation = number // self.schedule.generation
        candidate = Candidate(
            number, proposal.genotype, generation, proposal.operator, proposal.parents, tuple(self._heard), replicate
        )
        self._register(candidate)
        return candidate

    def replay(self, candidate: Candidate) -> None:
        """Register a recorded candidate as the next one, in place of `ask`, when a search resumes.

        Raises ValueError if its number is not the next one, or a result that it depends on was not reported by `tell`.
        """
        if candidate.number != self._n_asked:
            raise ValueError(f"candidate {candidate.number} does not follow candidate {self._n_asked - 1}")
        if not self._absorb_results(candidate.number):
            raise ValueError(f"candidate {candidate.number} depends on a result that is missing")
        self._register(candidate)

    def _absorb_results(self, number: int) -> bool:
        """Absorb the results that candidate `number` depends on; return False if one of them is missing."""
        horizon = self.schedule.horizon(number)
        while self._n_absorbed < horizon:
            if self._n_absorbed not in self._results:
                return False
            self._absorb_result(self._n_absorbed)
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
        """Report the costs of candidate `number`: finite, smaller is better; None if it failed or is infeasible.

        Raises ValueError if the candidate is unknown or already has a result, or the costs are not finite.
        """
        if number not in self._open or number in self._results:
            raise ValueError(f"candidate {number} was never asked, or already has a result")
        if costs is not None:
            costs = tuple(float(cost) for cost in costs)
            if len(costs) != self.n_objectives or not all(map(math.isfinite, costs)):
                raise ValueError(f"candidate {number} needs {self.n_objectives} finite costs or None, got {costs}")
        self._results[number] = costs
        if self.depends_on_order:
            self._absorb_result(number)

    def _absorb_result(self, number: int) -> None:
        self._n_absorbed += 1
        self._heard.append(number)
        candidate, costs = self._open.pop(number), self._results.pop(number)
        key = self._canonical(candidate.genotype)
        # In an exhausted space known networks are proposed again. Their result is that of the first training
        is_known = candidate.replicate == 0 and self._first.get(key, number) != number
        if self._surrogate is not None and costs is not None and not is_known:
            self._surrogate.learn(key, costs)
        if candidate.replicate == 0:
            self._absorb(candidate, costs)

    def _choose_retraining(self, number: int) -> Genotype | None:
        """Return the network that candidate `number` trains again; None: it is a new network."""
        surrogate = self._surrogate
        if number < len(self.initial) or surrogate is None or self.retraining == 0 or len(surrogate.keys) < 2:
            return None
        rng = np.random.default_rng(derive_seed(self.seed, "retraining", number))
        if not is_due_early(number, self._n_retrained, self.retraining):
            if not surrogate.models or rng.random() >= target_share(surrogate, self.retraining):
                return None
        elif surrogate.is_exact:
            return None
        asked = np.array([max(1, self._trainings[key]) for key in surrogate.keys])
        return surrogate.keys[choose_network(surrogate, asked, rng)]

    def _estimate(self, genotype: Genotype, costs: tuple[float, ...]) -> tuple[float, ...]:
        """Return the estimated true costs of a network; `costs`, of its first training, if it is not modeled."""
        estimate = None if self._surrogate is None else self._surrogate.estimate(self._canonical(genotype))
        return costs if estimate is None else estimate

    def _draw(self, number: int, rng: Generator) -> Proposal:
        """Return a new, connected network; after a bounded number of tries, possibly a known or disconnected one.

        The number of changed genes increases with the tries; the last ones are uniform draws.
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
        """Return whether the genotype is a network that was not proposed before."""
        return self._key(genotype) not in self._known

    def _canonical(self, genotype: Genotype) -> Genotype:
        """Return the key of a network; the genotype itself if it is no network."""
        return self._key(genotype) or genotype

    @abstractmethod
    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        """Return a proposal. `changes`, from 1, grows while only known networks are proposed."""

    @abstractmethod
    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        """Use the first result of a network; None: it failed or is infeasible, and must have no offspring."""
