"""The region of the front that the user cares about, given as a point to come near.

Source: Deb et al., "Reference point based multi-objective optimization using evolutionary algorithms", 2006
(R-NSGA-II), with the achievement scalarising function of Wierzbicki, "The use of reference objectives in
multiobjective optimization", 1980, in place of the Euclidean distance: it tells a point that betters the wish from one
that misses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from deap import base, tools
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from nasx import pareto
from nasx.algorithms.base import Algorithm, Mode, Proposal, Schedule, at_least, share
from nasx.algorithms.operators import change, polynomial, simulated_binary, uniform, uniform_crossover
from nasx.algorithms.retraining import Share
from nasx.errors import SettingError
from nasx.protocols import Problem
from nasx.trial import Candidate, Genotype


def achievement(costs: ArrayLike, wish: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
    """How far each point misses the wish in its worst objective, (n_points,); negative where it betters all of it.

    `costs` (n_points, n_objectives), `wish` and `scale` (n_objectives,): differences are counted in units of `scale`.
    A hundredth of their sum is added, so that of two points that miss alike the one that dominates is smaller.

    >>> achievement([[1, 4], [2, 2]], wish=[2, 3], scale=[1, 1]).round(2).tolist()
    [1.0, -0.01]
    """
    misses = (np.asarray(costs, dtype=float) - np.asarray(wish)) / np.asarray(scale)
    result: NDArray[np.float64] = misses.max(axis=1) + misses.sum(axis=1) / 100
    return result


def ranges(costs: ArrayLike) -> NDArray[np.float64]:
    """The range of each objective over the points, (n_objectives,); 1 where there is none."""
    spread = np.ptp(np.asarray(costs, dtype=float), axis=0)
    return np.where(spread > 0, spread, 1.0)


MAX_SCREENED: Final = 2000  # answers; from here on the front hardly moves, and choosing costs more than it returns
MIN_PARENTS = 4  # a front of fewer is filled up with the next ranks; with one objective the front is a single network


class Costs(base.Fitness):  # type: ignore[misc]
    """Costs as DEAP wants them. An ordinary subclass: those of `deap.creator` are global to the process."""

    def __init__(self, costs: tuple[float, ...]) -> None:
        self.weights = (-1.0,) * len(costs)
        super().__init__(costs)


class Individual:
    """A candidate with its costs, under the attribute name that DEAP reads."""

    def __init__(self, candidate: Candidate, costs: tuple[float, ...]) -> None:
        self.candidate = candidate
        self.first_costs = costs  # of its first training
        self.costs = costs  # the best estimate of them
        self.fitness = Costs(costs)  # the same as DEAP wants them; up to date when `Population.cut` chooses
        self.rank = 0  # of non-domination within the population; 0 is the front
        self.crowding = 0.0  # distance to its neighbours in the same rank; infinite at the extremes

    @property
    def genotype(self) -> Genotype:
        return self.candidate.genotype


class Population:
    """At most twice `size` individuals: survivors and newcomers, until `cut` chooses among them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.members: list[Individual] = []

    def add(self, individual: Individual) -> None:
        self.members.append(individual)

    def revise(self, estimate: Callable[[Genotype, tuple[float, ...]], tuple[float, ...]]) -> None:
        """Replace the costs of all members by what their further trainings, and their relatives', say."""
        for member in self.members:
            member.costs = estimate(member.genotype, member.first_costs)

    def cut(self) -> None:
        """Keep the `size` best by rank, then by crowding distance."""
        for member in self.members:
            member.fitness = Costs(member.costs)
        self.members = tools.selNSGA2(self.members, self.size)

    def best(self, n: int) -> list[Individual]:
        """The front, filled up with whole ranks to at least `n` as far as there are any, with rank and crowding set.

        On arrays, since it is done for every newcomer: DEAP's sorting takes some 10 ms for 128 individuals.
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
    """The better of two drawn at random: the smaller rank, then the larger crowding distance, then the first drawn."""
    first, second = (rivals[int(i)] for i in rng.integers(len(rivals), size=2))
    return second if (second.rank, -second.crowding) < (first.rank, -first.crowding) else first


class NSGA2(Algorithm):
    """NSGA-II for expensive, noisy evaluations: a steady state that breeds from the front, one gene changed at a time.

    After `initial_samples` uniform draws, parents come from the front of the estimates (posterior means of the
    surrogate), by tournament on crowding distance. A child is one parent, or two of them crossed, with exactly one gene
    changed to a different allele. Part of the budget trains again the networks whose place on the front is open.

    Args:
        population_size: how many survive, and how many candidates are a generation.
        initial_samples: uniform draws before the first offspring.
        crossover: share of the offspring that have two parents.
        screening: offspring bred for each candidate, of which the surrogate chooses the one with the largest expected
            hypervolume improvement; 1: none.
        unscreened: share of the candidates that the model has no say in, so that its errors cannot lock the search in.
        retraining: share of the trainings that re-train networks whose place on the front is open, 0 to 0.75; "auto":
            by how open the front is, and none if answers have no noise.
        mode: "steady_state": each candidate is bred from the answers up to `lag` before it, so that nobody waits for a
            generation to end and the search is repeatable; "generational": from all generations before its own;
            "free_running": from whatever has been answered, which depends on the order of arrival; "auto": steady
            state up to 2 workers or if a lag is given, else free running.
        lag: 1 waits for every answer; None: grows as large as `workers` need, see `base.default_lag`.
        preference: a value of each objective, in their order and own units, that the search should come near, and
            better if it can: it then breeds towards that region alone. None: the whole front.
    """

    def __init__(
        self,
        *,
        population_size: int = 64,
        initial_samples: int = 20,
        crossover: float = 0.3,
        screening: int = 16,
        unscreened: float = 0.2,
        retraining: Share = "auto",
        mode: Mode = "auto",
        lag: int | None = None,
        preference: tuple[float, ...] | None = None,
        problem: Problem,
    ) -> None:
        at_least("population_size", population_size, 4)
        at_least("initial_samples", initial_samples, 1)
        share("crossover", crossover)
        if preference is not None and len(preference) != problem.n_objectives:
            raise SettingError(
                "preference", f"must have a value for each of {problem.n_objectives} objectives, got {preference}"
            )
        at_least("screening", screening, 1)
        share("unscreened", unscreened)
        schedule = Schedule.of(mode, lag, problem.workers, population_size)
        super().__init__(schedule, problem, retraining, modeled=screening > 1)
        self.initial_samples = initial_samples
        self.crossover = crossover
        self.population = Population(population_size)
        self._parents: list[Individual] | None = None  # found again after each answer
        self.screening = screening
        self.unscreened = unscreened
        self._wish = None if preference is None else np.multiply(preference, problem.signs or 1)

    def _draw(self, number: int, rng: Generator) -> Proposal:
        draw = super()._draw
        proposal = draw(number, rng)
        surrogate = self._surrogate
        if self.screening == 1 or surrogate is None or not surrogate.models or surrogate.n_answers >= MAX_SCREENED:
            return proposal
        if proposal.operator == "random" or rng.random() < self.unscreened:
            return proposal
        offspring = [proposal, *(draw(number, rng) for _ in range(self.screening - 1))]
        front = np.array([parent.costs for parent in self._breeders() if parent.rank == 0])
        means, variances = surrogate.predict([self._canonical(child.genotype) for child in offspring])
        deviations = np.sqrt(variances)
        if self._wish is not None:
            return offspring[int(np.argmin(achievement(means - deviations, self._wish, ranges(front))))]
        return offspring[int(np.argmax(improvements(means, deviations, front)))]

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        parents = self._breeders()
        if number < self.initial_samples or not parents:
            return Proposal(uniform(self.gene_sizes, rng), "random")
        mother, father = tournament(parents, rng), tournament(parents, rng)
        if mother is father or rng.random() >= self.crossover:
            child = change(mother.genotype, self.gene_sizes, changes, rng)
            return Proposal(child, "mutation", (mother.candidate.number,))
        crossed = uniform_crossover(mother.genotype, father.genotype, rng)
        child = change(crossed, self.gene_sizes, changes, rng)
        return Proposal(child, "crossover+mutation", (mother.candidate.number, father.candidate.number))

    def _breeders(self) -> list[Individual]:
        """Who may become a parent: the front, or somewhat more where it is tiny."""
        if self._parents is None:
            if self._surrogate is not None:
                self.population.revise(self._estimate)
            self._parents = self.population.best(MIN_PARENTS)
            if self._wish is not None and self._parents:
                costs = [parent.costs for parent in self._parents]
                misses = achievement(costs, self._wish, ranges(costs))
                for parent, miss in zip(self._parents, misses, strict=True):
                    parent.crowding = -float(miss)  # what a tournament goes by: near the wish, not far from the others
        return self._parents

    def _absorb_answer(self, number: int) -> None:
        super()._absorb_answer(number)
        self._parents = None  # a further training, too, moves the estimates

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        absorb(self.population, candidate, costs, self._estimate)


class NSGA2Paper(Algorithm):
    """The paper's NSGA-II: generations, the first one uniform; crossover and mutation of genes as integers.

    Args:
        population_size: candidates a generation, and how many survive it.
        crossover: probability that two parents are crossed.
        crossover_eta: the smaller, the farther children are from their parents.
        mutation: probability that a gene is mutated; None: 1 / number of genes.
        mutation_eta: the smaller, the farther a gene moves.
        retraining: share of the trainings that re-train known networks, or "auto"; 0: none, as published.
    """

    def __init__(
        self,
        *,
        population_size: int = 64,
        crossover: float = 0.9,
        crossover_eta: float = 3.0,
        mutation: float | None = None,
        mutation_eta: float = 3.0,
        retraining: Share = 0.0,
        problem: Problem,
    ) -> None:
        at_least("population_size", population_size, 4)
        share("crossover", crossover)
        at_least("crossover_eta", crossover_eta, 0)
        share("mutation", 0.0 if mutation is None else mutation)
        at_least("mutation_eta", mutation_eta, 0)
        super().__init__(Schedule("generational", population_size), problem, retraining)
        self.crossover = crossover
        self.crossover_eta = crossover_eta
        self.mutation = 1 / len(self.gene_sizes) if mutation is None else mutation
        self.mutation_eta = mutation_eta
        self.population = Population(population_size)
        self._parents: list[Individual] | None = None  # found again after each answer

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
        crossed = simulated_binary(mother.genotype, father.genotype, self.gene_sizes, self.crossover_eta, rng)
        child = self._mutated(crossed, rng)
        return Proposal(child, "crossover+mutation", (mother.candidate.number, father.candidate.number))

    def _mutated(self, genotype: Genotype, rng: Generator) -> Genotype:
        return polynomial(genotype, self.gene_sizes, self.mutation, self.mutation_eta, rng)

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        absorb(self.population, candidate, costs, self._estimate)
        self._parents = None


def absorb(
    population: Population,
    candidate: Candidate,
    costs: tuple[float, ...] | None,
    estimate: Callable[[Genotype, tuple[float, ...]], tuple[float, ...]],
) -> None:
    """Add a candidate that has costs; if there are twice as many as may survive, choose the survivors.

    The steady state loses nothing by choosing so rarely: it breeds from the front.
    """
    if costs is not None:
        population.add(Individual(candidate, costs))
    if len(population.members) >= 2 * population.size:
        population.revise(estimate)
        population.cut()


def improvements(
    means: NDArray[np.float64], deviations: NDArray[np.float64], front: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The hypervolume that each uncertain point is expected to add to the front, (n_points,).

    Costs are scaled to the extent of the front and of the points at their optimistic best, mean minus one standard
    deviation; the reference point is behind all of them, so that every new trade-off counts.
    """
    everything = np.concatenate([means - deviations, front])
    low, extent = everything.min(axis=0), ranges(everything)
    scaled = [(points - low) / extent for points in (means, front)]
    return pareto.expected_improvement(scaled[0], deviations / extent, scaled[1], np.full(means.shape[1], 1.1))
