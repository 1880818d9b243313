"""Searchers of nasx and the peers, as functions (problem, seed, evaluations) -> genotypes in order of evaluation.

Peers have the settings that their users get. pymoo has the paper's settings and its own elimination of equal genotypes;
Optuna has its defaults except for the paper's population. Neither detects equivalent or disconnected encodings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nasx.protocols import Problem, SearchAlgorithm
from nasx.trial import Genotype
from scripts.bench.tabular import TabularProblem

Searcher = Callable[[TabularProblem, int, int], list[Genotype]]


def ours(algorithm: Callable[..., SearchAlgorithm], workers: int = 1, **settings: Any) -> Searcher:
    """Return a searcher with one of nasx's algorithms, which receives results in the order of asking.

    Args:
        algorithm: class of nasx.
        workers: number for which the algorithm is configured; it determines the lag of the results.
        settings: arguments of the algorithm.
    """

    def search(problem: TabularProblem, seed: int, evaluations: int) -> list[Genotype]:
        space = problem.space
        given = Problem(
            gene_sizes=space.gene_sizes,
            n_objectives=2,
            seed=seed,
            key=space.canonical,
            is_connected=space.is_connected,
            workers=workers,
            is_noisy=False,
        )
        searcher = algorithm(**settings, problem=given)
        asked: list[Genotype] = []
        while len(asked) < evaluations:
            candidate = searcher.ask()
            assert candidate is not None
            asked.append(candidate.genotype)
            searcher.tell(candidate.number, problem.costs[candidate.genotype])
        return asked

    return search


def pymoo(problem: TabularProblem, seed: int, evaluations: int) -> list[Genotype]:
    """Search with pymoo's NSGA-II and the paper's settings.

    Population 64, integer SBX (0.9, eta 3), polynomial mutation (1/6, 3).

    Args:
        problem: table with the costs of all genotypes.
        seed: of the algorithm.
        evaluations: budget.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2  # of the extra bench
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    asked: list[Genotype] = []
    sizes = problem.space.gene_sizes

    class Tabular(PymooProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(sizes), n_obj=2, xl=0, xu=np.array(sizes) - 1, vtype=int)

        def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            genotypes = [tuple(map(int, row)) for row in x]
            asked.extend(genotypes)
            out["F"] = np.array([problem.costs[genotype] for genotype in genotypes])

    algorithm = NSGA2(
        pop_size=64,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, prob_var=1 / len(sizes), eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Tabular(), algorithm, ("n_eval", evaluations), seed=seed)
    return asked[:evaluations]


def optuna(problem: TabularProblem, seed: int, evaluations: int) -> list[Genotype]:
    """Search with Optuna's NSGA-II sampler, population 64, every gene categorical.

    Args:
        problem: table with the costs of all genotypes.
        seed: of the sampler.
        evaluations: budget.
    """
    import optuna  # of the extra bench

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked: list[Genotype] = []
    sizes = problem.space.gene_sizes

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        genotype = tuple(trial.suggest_categorical(f"g{i}", list(range(n))) for i, n in enumerate(sizes))
        asked.append(genotype)
        return problem.costs[genotype]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of experimental features
        sampler = optuna.samplers.NSGAIISampler(population_size=64, seed=seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=evaluations)
    return asked
