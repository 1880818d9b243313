"""Random search without repetition: the baseline for every other algorithm."""

from __future__ import annotations

from numpy.random import Generator
from pydantic import SkipValidation

from nasx.algorithms.base import Algorithm, Lag, Proposal, Schedule
from nasx.algorithms.operators import uniform
from nasx.algorithms.retraining import Share
from nasx.config.settings import checked
from nasx.protocols import Problem
from nasx.trial import Candidate


class RandomSearch(Algorithm):
    """Random search: uniform draws; known and disconnected networks are drawn again.

    Args:
        retraining: share of the trainings that re-train known networks, or "auto". 0: none, and `ask` never waits.
        lag: with re-training, candidate k depends on the results up to k - lag; None: grows with the workers.
        problem: gene sizes, objectives and seed, set by the search.
    """

    @checked
    def __init__(self, *, retraining: Share = 0.0, lag: Lag | None = None, problem: SkipValidation[Problem]) -> None:
        # without re-training: one endless generation, whose results no candidate depends on
        waits = retraining != 0 and problem.is_noisy
        schedule = Schedule.of("steady_state", lag, problem.workers) if waits else Schedule("generational")
        super().__init__(schedule, problem, retraining)

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        return Proposal(uniform(self.gene_sizes, rng), "random")

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        """Do nothing: candidates do not depend on results."""
