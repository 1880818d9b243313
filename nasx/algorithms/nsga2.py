"""NSGA-II: a steady state for expensive, noisy evaluations, and the generational variant of the paper.

With a preference, a search concentrates on the part of the front near a point that the user chooses (the aspiration
point). Source: Deb et al., "Reference point based multi-objective optimization using evolutionary algorithms", 2006
(R-NSGA-II). Distance is the achievement scalarizing function of Wierzbicki, "The use of reference objectives in
multiobjective optimization", 1980, instead of the Euclidean distance: it distinguishes points that are better than the
aspiration point from points that are worse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import numpy as np
from deap import base, tools
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, SkipValidation

from nasx import pareto
from nasx.algorithms.base import Algorithm, Lag, Mode, Proposal, Schedule
from nasx.algorithms.operators import (
    mutate,
    polynomial_mutation,
    simulated_binary_crossover,
    uniform,
    uniform_crossover,
)
from nasx.algorithms.retraining import Share
from nasx.config.settings import checked
from nasx.errors import SettingError
from nasx.protocols import Problem
from nasx.trial import Candidate, Genotype

MAX_SCREENED: Final = 2000  # results; later the front hardly moves, and screening costs more than it gains
MIN_PARENTS = 4  # a smaller front is extended by the next ranks; with one objective the front is a single network
PopulationSize = Annotated[int, Field(ge=4)]
Probability = Annotated[float, Field(ge=0, le=1)]
DistributionIndex = Annotated[float, Field(ge=0)]


def achievement(costs: ArrayLike, aspiration: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
    """Return the distance of each point from the aspiration point in its worst objective, (n_points,).

    It is negative if the point is better in all objectives. A hundredth of the sum over the objectives is added, so
    that of two points with the same worst objective the one that dominates has the smaller value.

    Args:
        costs: (n_points, n_objectives).
        aspiration: (n_objectives,) costs of the aspiration point.
        scale: (n_objectives,) unit of the differences.

    >>> achievement([[1, 4], [2, 2]], aspiration=[2, 3], scale=[1, 1]).round(2).tolist()
    [1.0, -0.01]
    """
    excess = (np.asarray(costs, dtype=float) - np.asarray(aspiration)) / np.asarray(scale)
    result: NDArray[np.float64] = excess.max(axis=1) + excess.sum(axis=1) / 100
    return result


def ranges(costs: ArrayLike) -> NDArray[np.float64]:
    """Return the range of each objective over the points, (n_objectives,); 1 if all values are equal."""
    spread = np.ptp(np.asarray(costs, dtype=float), axis=0)
    return np.where(spread > 0, spread, 1.0)


class Fitness(base.Fitness):  # type: ignore[misc]
    """DEAP's fitness of costs. A plain subclass, because those of `deap.creator` are global to the process."""

    def __init__(self, costs: tuple[float, ...]) -> None:
        self.weights = (-1.0,) * len(costs)
        super().__init__(costs)


class Individual:
    """A candidate with its costs; DEAP reads the attribute `fitness`."""

    def __init__(self, candidate: Candidate, costs: tuple[float, ...]) -> None:
        self.candidate = candidate
        self.first_costs = costs  # of its first training
        self.costs = costs  # best estimate of the true costs
        self.fitness = Fitness(costs)  # of `costs`; updated by `Population.truncate`
        self.rank = 0  # of non-domination within the population; 0 is the front
        self.crowding = 0.0  # distance to its neighbors in the same rank; infinite at the extremes

    @property
    def genotype(self) -> Genotype:
        return self.candidate.genotype


class Population:
    """At most twice `size` individuals: survivors and newcomers, until `truncate` selects among them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.members: list[Individual] = []

    def add(self, individual: Individual) -> None:
        self.members.append(individual)

    def revise(self, estimate: Callable[[Genotype, tuple[float, ...]], tuple[float, ...]]) -> None:
        """Update the costs of all members to the estimates from all trainings."""
        for member in self.members:
            member.costs = estimate(member.genotype, member.first_costs)

    def truncate(self) -> None:
        """Keep the `size` best by rank, then by crowding distance."""
        for member in self.members:
            member.fitness = Fitness(member.costs)
        self.members = tools.selNSGA2(self.members, self.size)

    def best(self, n: int) -> list[Individual]:
        """Return the front, extended by whole ranks to at least `n` members if possible; set rank and crowding.

        Implemented on arrays because it runs for every newcomer: DEAP's sorting takes 10 ms for 128 individuals.
        """
        costs = np.array([individual.costs for individual in self.members])
        chosen: list[Individual] = []
        rest = np.arange(len(self.members))
        rank = 0
        while len(chosen) < n and len(rest):
            on_front = pareto.front_mask(costs[rest])
            level, rest = rest[on_front], rest[~on_front]
            for i, crowding in zip(level, pareto.crowding_distance(costs[level]), strict=True):
                self.members[i].rank, self.members[i].crowding = rank, float(crowding)
                chosen.append(self.members[i])
            rank += 1
        return chosen


def tournament(rivals: list[Individual], rng: Generator) -> Individual:
    """Return the better of two random rivals: smaller rank, then larger crowding distance, then the first drawn."""
    first, second = (rivals[int(i)] for i in rng.integers(len(rivals), size=2))
    return second if (second.rank, -second.crowding) < (first.rank, -first.crowding) else first


class NSGA2(Algorithm):
    """Steady-state NSGA-II for expensive, noisy evaluations: parents come from the front, children change one gene.

    After `initial_samples` uniform draws, parents are members of the front of the estimates (posterior means of the
    surrogate), selected by tournament on crowding distance. A child is a copy of one parent, or a crossover of two,
    with exactly one gene changed. Part of the budget re-trains networks whose membership of the front is uncertain.

    Args:
        population_size: survivors, and candidates per generation.
        initial_samples: uniform draws before the first offspring.
        crossover: share of the offspring that have two parents.
        screening: offspring per candidate; the surrogate selects the one with the largest expected hypervolume
            improvement. 1: no screening.
        unscreened: share of the candidates that are not screened, so that errors of the model cannot trap the search.
        retraining: share of the trainings that re-train networks, 0 to 0.75. "auto": depends on the uncertainty of the
            front, 0 without noise.
        mode: "steady_state": each candidate depends on the results up to `lag` before it; repeatable, and no worker
            waits for the end of a generation. "generational": on all earlier generations. "free_running": on all
            results so far, so that it depends on their order of arrival. "auto": steady state with up to 2 workers or
            if a lag is given, else free running.
        lag: 1 waits for every result; None: grows with the workers, see `base.default_lag`.
        preference: target value of each objective, in their order and units: the search concentrates on the part of
            the front near it. None: the whole front.
        problem: gene sizes, objectives and seed, set by the search.
    """

    @checked
    def __init__(
        self,
        *,
        population_size: PopulationSize = 64,
        initial_samples: Annotated[int, Field(ge=1)] = 20,
        crossover: Probability = 0.3,
        screening: Annotated[int, Field(ge=1)] = 16,
        unscreened: Probability = 0.2,
        retraining: Share = "auto",
        mode: Mode = "auto",
        lag: Lag | None = None,
        preference: tuple[float, ...] | None = None,
        problem: SkipValidation[Problem],
    ) -> None:
        if preference is not None and len(preference) != problem.n_objectives:
            raise SettingError(
                "preference", f"must have a value for each of {problem.n_objectives} objectives, got {preference}"
            )
        schedule = Schedule.of(mode, lag, problem.workers, population_size)
        super().__init__(schedule, problem, retraining, modeled=screening > 1)
        self.initial_samples = initial_samples
        self.crossover = crossover
        self.population = Population(population_size)
        self._parents: list[Individual] | None = None  # computed again after each result
        self.screening = screening
        self.unscreened = unscreened
        self._aspiration = None if preference is None else np.multiply(preference, problem.signs or 1)

    def _draw(self, number: int, rng: Generator) -> Proposal:
        draw = super()._draw
        proposal = draw(number, rng)
        surrogate = self._surrogate
        if self.screening == 1 or surrogate is None or not surrogate.models or surrogate.n_results >= MAX_SCREENED:
            return proposal
        if proposal.operator == "random" or rng.random() < self.unscreened:
            return proposal
        offspring = [proposal, *(draw(number, rng) for _ in range(self.screening - 1))]
        front = np.array([parent.costs for parent in self._find_parents() if parent.rank == 0])
        means, variances = surrogate.predict([self._canonical(child.genotype) for child in offspring])
        deviations = np.sqrt(variances)
        if self._aspiration is not None:
            return offspring[int(np.argmin(achievement(means - deviations, self._aspiration, ranges(front))))]
        return offspring[int(np.argmax(expected_improvements(means, deviations, front)))]

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        parents = self._find_parents()
        if number < self.initial_samples or not parents:
            return Proposal(uniform(self.gene_sizes, rng), "random")
        mother, father = tournament(parents, rng), tournament(parents, rng)
        if mother is father or rng.random() >= self.crossover:
            child = mutate(mother.genotype, self.gene_sizes, changes, rng)
            return Proposal(child, "mutation", (mother.candidate.number,))
        crossed = uniform_crossover(mother.genotype, father.genotype, rng)
        child = mutate(crossed, self.gene_sizes, changes, rng)
        return Proposal(child, "crossover+mutation", (mother.candidate.number, father.candidate.number))

    def _find_parents(self) -> list[Individual]:
        """Return the front, extended by the next ranks to `MIN_PARENTS`."""
        if self._parents is None:
            if self._surrogate is not None:
                self.population.revise(self._estimate)
            self._parents = self.population.best(MIN_PARENTS)
            if self._aspiration is not None and self._parents:
                costs = [parent.costs for parent in self._parents]
                distances = achievement(costs, self._aspiration, ranges(costs))
                for parent, distance in zip(self._parents, distances, strict=True):
                    parent.crowding = -float(distance)  # tournaments prefer the nearest instead of the least crowded
        return self._parents

    def _absorb_result(self, number: int) -> None:
        super()._absorb_result(number)
        self._parents = None  # re-trainings change the estimates, too

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        add_candidate(self.population, candidate, costs, self._estimate)


class NSGA2Paper(Algorithm):
    """NSGA-II of the paper: generations, the first one uniform; crossover and mutation of genes as integers.

    Args:
        population_size: candidates per generation, and survivors.
        crossover: probability that two parents are crossed.
        crossover_eta: distribution index; the smaller, the farther children are from their parents.
        mutation: probability that a gene is mutated; None: 1 / number of genes.
        mutation_eta: distribution index; the smaller, the larger the steps.
        retraining: share of the trainings that re-train known networks, or "auto"; 0: none, as published.
        problem: gene sizes, objectives and seed, set by the search.
    """

    @checked
    def __init__(
        self,
        *,
        population_size: PopulationSize = 64,
        crossover: Probability = 0.9,
        crossover_eta: DistributionIndex = 3.0,
        mutation: Probability | None = None,
        mutation_eta: DistributionIndex = 3.0,
        retraining: Share = 0.0,
        problem: SkipValidation[Problem],
    ) -> None:
        super().__init__(Schedule("generational", population_size), problem, retraining)
        self.crossover = crossover
        self.crossover_eta = crossover_eta
        self.mutation = 1 / len(self.gene_sizes) if mutation is None else mutation
        self.mutation_eta = mutation_eta
        self.population = Population(population_size)
        self._parents: list[Individual] | None = None  # computed again after each result

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        if self._parents is None:
            self.population.revise(self._estimate)
            self._parents = self.population.best(self.population.size)
        parents = self._parents
        if not parents:
            return Proposal(uniform(self.gene_sizes, rng), "random")
        mother, father = tournament(parents, rng), tournament(parents, rng)
        if mother is father or rng.random() >= self.crossover:
            child = self._mutated(mother.genotype, rng)
            return Proposal(child, "mutation", (mother.candidate.number,))
        crossed = simulated_binary_crossover(mother.genotype, father.genotype, self.gene_sizes, self.crossover_eta, rng)
        child = self._mutated(crossed, rng)
        return Proposal(child, "crossover+mutation", (mother.candidate.number, father.candidate.number))

    def _mutated(self, genotype: Genotype, rng: Generator) -> Genotype:
        return polynomial_mutation(genotype, self.gene_sizes, self.mutation, self.mutation_eta, rng)

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        add_candidate(self.population, candidate, costs, self._estimate)
        self._parents = None


def add_candidate(
    population: Population,
    candidate: Candidate,
    costs: tuple[float, ...] | None,
    estimate: Callable[[Genotype, tuple[float, ...]], tuple[float, ...]],
) -> None:
    """Add a candidate to the population; select the survivors when there are twice as many members.

    Rare selection does not harm the steady state, because its parents come from the front.

    Args:
        population: changed in place.
        candidate: not added if it has no costs.
        costs: of its first training; None: it failed or is infeasible.
        estimate: returns the estimated true costs of a genotype, given the costs of its first training.
    """
    if costs is not None:
        population.add(Individual(candidate, costs))
    if len(population.members) >= 2 * population.size:
        population.revise(estimate)
        population.truncate()


def expected_improvements(
    means: NDArray[np.float64], deviations: NDArray[np.float64], front: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the expected hypervolume improvement of the front by each uncertain point, (n_points,).

    Costs are scaled to the range of the front and of the points at mean minus one standard deviation. The
    reference point is 1.1 in each objective, so that new extreme points have an improvement, too.

    Args:
        means: (n_points, n_objectives) expected costs.
        deviations: (n_points, n_objectives) standard deviations.
        front: (n_front, n_objectives) costs.
    """
    everything = np.concatenate([means - deviations, front])
    low, extent = everything.min(axis=0), ranges(everything)
    scaled = [(points - low) / extent for points in (means, front)]
    return pareto.expected_hypervolume_improvement(
        scaled[0], deviations / extent, scaled[1], np.full(means.shape[1], 1.1)
    )
