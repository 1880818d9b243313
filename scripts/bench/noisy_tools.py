"""Search tools on a noisy problem. Each returns the networks that it recommends after given numbers of trainings.

Peers recommend the front of single results, as their users see it. They may train another encoding of a known network:
it counts as the network's next replicate. The training of a disconnected encoding fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nasx import pareto
from nasx.algorithms.estimates import estimate
from nasx.algorithms.nsga2 import NSGA2
from nasx.algorithms.random_search import RandomSearch
from nasx.protocols import Problem, SearchAlgorithm
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Genotype, Objective, Trial, TrialStatus
from scripts.bench.noisy_problem import SPACE, Costs, NoisyProblem, Shown

RELEASED = "c8f4bd1"  # commit of the released nasx
N_OBJECTIVES = 2
ALLELES = tuple(SPACE.allele_names(gene) for gene in range(len(SPACE.gene_sizes)))

Training = tuple[Genotype, int, Costs]  # canonical genotype, replicate, costs
Tool = Callable[[NoisyProblem, int, Sequence[int]], dict[int, Shown]]  # problem, search seed, ascending budgets


def recommend(problem: NoisyProblem, trainings: Sequence[Training]) -> Shown:
    """Return the networks that nasx of the working tree recommends after these trainings, with its estimated costs.

    Converts each training to a trial, as `nasx pareto` reads it from the journal.
    """
    objectives = objectives_of(problem)
    trials = [
        Trial(
            arch_id=SPACE.describe(genotype),
            replicate=replicate,
            genotype=genotype,
            architecture=SPACE.describe(genotype),
            seed=0,
            evaluation=Evaluation(
                TrialStatus.COMPLETE,
                metrics={o.name: o.sign * cost for o, cost in zip(objectives, costs, strict=True)},
            ),
            candidate=Candidate(number, genotype, generation=0, operator=""),
        )
        for number, (genotype, replicate, costs) in enumerate(trainings)
    ]
    estimates = estimate(trials, objectives, ALLELES)
    return [
        (SPACE.parse(estimates.arch_ids[i]), (float(estimates.means[i, 0]), float(estimates.means[i, 1])))
        for i in estimates.front
    ]


def objectives_of(problem: NoisyProblem) -> tuple[Objective, Objective]:
    """Return the objectives of the two costs."""
    second = "parameters" if problem.setting.second == "parameters" else "introspectability"
    return OBJECTIVES["error"], OBJECTIVES[second]


def front(shown: Shown) -> Shown:
    """Return the entries that are non-dominated."""
    mask = pareto.front_mask([costs for _, costs in shown])
    return [entry for entry, is_on_front in zip(shown, mask, strict=True) if is_on_front]


def single_results(problem: NoisyProblem, trainings: Sequence[Training]) -> Shown:
    """Return the front of the results of single trainings."""
    return front([(genotype, costs) for genotype, _, costs in trainings])


def working_tree(
    algorithm: Callable[..., SearchAlgorithm], recommend: Callable[[NoisyProblem, Sequence[Training]], Shown]
) -> Tool:
    """Return a tool that runs an algorithm of the working tree with its default settings and one worker."""

    def search(problem: NoisyProblem, seed: int, budgets: Sequence[int]) -> dict[int, Shown]:
        objectives = objectives_of(problem)
        given = Problem(
            gene_sizes=SPACE.gene_sizes,
            n_objectives=N_OBJECTIVES,
            seed=seed,
            key=SPACE.canonical,
            is_connected=SPACE.is_connected,
            signs=tuple(objective.sign for objective in objectives),
            alleles=ALLELES,
            exact=tuple(objective.is_exact for objective in objectives),
        )
        searcher = algorithm(problem=given)
        trainings: list[Training] = []
        shown = {}
        for number in range(1, budgets[-1] + 1):
            candidate = searcher.ask()
            assert candidate is not None  # no trial is running
            costs = problem.train(candidate.genotype, candidate.replicate, seed)
            searcher.tell(candidate.number, costs)
            if costs is not None:
                trainings.append((SPACE.canonical(candidate.genotype), candidate.replicate, costs))
            if number in budgets:
                shown[number] = recommend(problem, trainings)
        return shown

    return search


def released(problem: NoisyProblem, seed: int, budgets: Sequence[int]) -> dict[int, Shown]:
    """Run the released nasx in its own process.

    It trains each network once and recommends the front of the results.

    Args:
        problem: provides the costs.
        seed: of the search.
        budgets: numbers of trainings, ascending.

    Returns:
        The recommendation at each budget.

    Raises:
        KeyError: The environment variable NASX_RELEASED, the directory of the release, is not set.
    """
    tree = os.environ["NASX_RELEASED"]
    script = Path(__file__).with_name("released_nsga2.py")
    command = [sys.executable, str(script), tree, str(seed), str(budgets[-1])]
    trainings: list[Training] = []
    shown = {}
    with subprocess.Popen(command, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(1, budgets[-1] + 1):
            genotype = tuple(json.loads(process.stdout.readline()))
            costs = problem.train(genotype, 0, seed)
            if costs is not None:
                trainings.append((SPACE.canonical(genotype), 0, costs))
            print(json.dumps(costs), file=process.stdin, flush=True)
            if number in budgets:
                shown[number] = single_results(problem, trainings)
    return shown


def unpack_released(directory: Path) -> None:
    """Write the files of the released nasx to a directory. Needs the repository."""
    archive = subprocess.run(
        ["git", "archive", RELEASED, "nasx"], cwd=Path(__file__).parent.parent.parent, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True)


class Trainer:
    """Trains networks of one search; a repeated network gets its next replicate."""

    def __init__(self, problem: NoisyProblem, seed: int) -> None:
        self.problem = problem
        self.seed = seed
        self.replicates: Counter[Genotype] = Counter()  # trainings so far, by canonical genotype

    def __call__(self, genotype: Genotype) -> Costs | None:
        network = SPACE.canonical(genotype)
        self.replicates[network] += 1
        return self.problem.train(network, self.replicates[network] - 1, self.seed)


def pymoo(population: int) -> Tool:
    """Return a tool that runs pymoo's NSGA-II with the settings of `searchers.pymoo`.

    It recommends the feasible front of its population. A disconnected encoding violates a constraint. A budget ends
    with a generation; in rare cases a generation has fewer children than the population, and the budget ends slightly
    late.
    """

    def search(problem: NoisyProblem, seed: int, budgets: Sequence[int]) -> dict[int, Shown]:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling

        if any(budget % population for budget in budgets):
            raise ValueError(f"budgets must be multiples of the population, {population}, got {budgets}")
        train, sizes = Trainer(problem, seed), SPACE.gene_sizes

        class Noisy(ElementwiseProblem):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(n_var=len(sizes), n_obj=2, n_ieq_constr=1, xl=0, xu=np.array(sizes) - 1, vtype=int)

            def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
                costs = train(tuple(map(int, x)))
                out["F"] = (0.0, 0.0) if costs is None else costs
                out["G"] = float(costs is None)  # positive: infeasible

        algorithm = NSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling(),
            crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=1.0, prob_var=1 / len(sizes), eta=3.0, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        algorithm.setup(Noisy(), termination=("n_eval", budgets[-1]), seed=seed)
        shown: dict[int, Shown] = {}
        while algorithm.has_next():
            algorithm.next()
            for budget in budgets:
                if budget not in shown and (algorithm.evaluator.n_eval >= budget or not algorithm.has_next()):
                    shown[budget] = [(SPACE.canonical(tuple(map(int, i.X))), tuple(i.F)) for i in algorithm.opt]
        return shown

    return search


def optuna(sampler: str, **settings: Any) -> Tool:
    """Return a tool that runs a sampler of Optuna, every gene categorical. It recommends the study's best trials.

    A disconnected encoding violates a constraint. It is not a failed trial, because TPE does not learn from those: with
    some seeds they were more than half of its trials.
    """

    def search(problem: NoisyProblem, seed: int, budgets: Sequence[int]) -> dict[int, Shown]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        train, sizes = Trainer(problem, seed), SPACE.gene_sizes

        def objective(trial: optuna.Trial) -> Costs:
            costs = train(tuple(trial.suggest_categorical(f"g{i}", list(range(n))) for i, n in enumerate(sizes)))
            trial.set_user_attr("violation", float(costs is None))
            return costs or (0.0, 0.0)

        def violations(trial: optuna.trial.FrozenTrial) -> list[float]:
            return [trial.user_attrs["violation"]]  # positive: infeasible

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of experimental features
            chosen = getattr(optuna.samplers, sampler)(seed=seed, constraints_func=violations, **settings)
        study = optuna.create_study(directions=["minimize"] * N_OBJECTIVES, sampler=chosen)
        shown: dict[int, Shown] = {}
        for number in budgets:
            study.optimize(objective, n_trials=number - len(study.trials))
            shown[number] = [
                (SPACE.canonical(tuple(trial.params[f"g{i}"] for i in range(len(sizes)))), tuple(trial.values))
                for trial in study.best_trials
            ]
        return shown

    return search


POPULATIONS = (16, 32, 64)
TOOLS: Mapping[str, Tool] = {
    "nasx": working_tree(NSGA2, recommend),
    "nasx_fixed": working_tree(partial(NSGA2, retraining=0.6), recommend),
    "released": released,
    "random": working_tree(RandomSearch, single_results),
    **{f"pymoo{n}": pymoo(n) for n in POPULATIONS},
    "optuna_nsga2": optuna("NSGAIISampler", population_size=64),
    "optuna_tpe": optuna("TPESampler"),
}
LABELS: Mapping[str, str] = {
    "nasx": "nasx nsga2, working tree",
    "nasx_fixed": "nasx nsga2, working tree, retraining=0.6",
    "released": f"nasx nsga2, released ({RELEASED})",
    "random": "random, every network once",
    **{f"pymoo{n}": f"pymoo NSGA-II, population {n}" for n in POPULATIONS},
    "optuna_nsga2": "Optuna NSGA-II, population 64",
    "optuna_tpe": "Optuna TPE",
}


def version_of(tool: str) -> str | None:
    """Return the version on which a tool's results depend; None if that is the working tree."""
    if tool == "released":
        return RELEASED
    package = tool.rstrip("0123456789").split("_")[0]
    return version(package) if package in ("pymoo", "optuna") else None
