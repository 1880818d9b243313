"""Random search without repeats: the baseline that every other algorithm must beat."""

from __future__ import annotations

from numpy.random import Generator

from nasx.algorithms.base import Algorithm, Proposal, Schedule
from nasx.algorithms.operators import uniform
from nasx.algorithms.retraining import Share
from nasx.protocols import Problem
from nasx.trial import Candidate


class RandomSearch(Algorithm):
    """Every candidate is drawn uniformly; one that is known or disconnected is drawn again.

    Args:
        retraining: share of the trainings that re-train known networks, or "auto"; 0: none, and it never waits.
        lag: with re-training, candidate k is chosen by the answers up to k - lag; None: grows with the workers.
    """

    def __init__(self, *, retraining: Share = 0.0, lag: int | None = None, problem: Problem) -> None:
        # without re-training, one generation without end, whose answers nobody waits for
        waits = retraining != 0 and problem.is_noisy
        schedule = Schedule.of("steady_state", lag, problem.workers) if waits else Schedule("generational")
        super().__init__(schedule, problem, retraining)

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        return Proposal(uniform(self.gene_sizes, rng), "random")

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        """Nothing is learned."""
