"""Search tools on a noisy problem. Each returns the networks that it recommends after given numbers of trainings.

Peers recommend the front of single answers that their user gets, and may train an encoding of a known network: it
counts as the network's next replicate. An encoding that is no network is a training that fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nasx import pareto
from nasx.algorithms.nsga2 import NSGA2
from nasx.algorithms.random_search import RandomSearch
from nasx.protocols import Problem, SearchAlgorithm
from nasx.trial import Genotype
from scripts.bench.noisy_problem import SPACE, Costs, NoisyProblem, Shown

RELEASED = "c8f4bd1"  # commit of the released nasx
N_OBJECTIVES = 2

Training = tuple[Genotype, int, Costs]  # canonical genotype, replicate, costs
Tool = Callable[[NoisyProblem, int, Sequence[int]], dict[int, Shown]]  # problem, search seed, ascending budgets


def recommend(trainings: Sequence[Training]) -> Shown:
    """Return the networks that nasx of the working tree shows after these trainings, with its estimates of their costs.

    The front of the mean costs of each network.
    """
    answers = defaultdict(list)
    for genotype, _, costs in trainings:
        answers[genotype].append(costs)
    return front([(genotype, tuple(np.mean(costs, axis=0).tolist())) for genotype, costs in answers.items()])


def front(shown: Shown) -> Shown:
    """Return the non-dominated ones."""
    mask = pareto.front_mask([costs for _, costs in shown])
    return [entry for entry, is_on_front in zip(shown, mask, strict=True) if is_on_front]


def single_answers(trainings: Sequence[Training]) -> Shown:
    """Return the front of single answers."""
    return front([(genotype, costs) for genotype, _, costs in trainings])


def working_tree(algorithm: Callable[..., SearchAlgorithm], recommend: Callable[[Sequence[Training]], Shown]) -> Tool:
    """Make a tool of an algorithm of the working tree, with one worker and default settings."""

    def search(problem: NoisyProblem, seed: int, budgets: Sequence[int]) -> dict[int, Shown]:
        given = Problem(
            gene_sizes=SPACE.gene_sizes,
            n_objectives=N_OBJECTIVES,
            seed=seed,
            key=SPACE.canonical,
            is_connected=SPACE.is_connected,
        )
        searcher = algorithm(problem=given)
        trainings: list[Training] = []
        shown = {}
        for number in range(1, budgets[-1] + 1):
            candidate = searcher.ask()
            assert candidate is not None  # every question has been answered
            replicate = getattr(candidate, "replicate", 0)
            costs = problem.train(candidate.genotype, replicate, seed)
            searcher.tell(candidate.number, costs)
            if costs is not None:
                trainings.append((SPACE.canonical(candidate.genotype), replicate, costs))
            if number in budgets:
                shown[number] = recommend(trainings)
        return shown

    return search


def released(problem: NoisyProblem, seed: int, budgets: Sequence[int]) -> dict[int, Shown]:
    """Run the released nasx, whose directory is in the environment variable NASX_RELEASED, in a process of its own.

    It trains each network once and shows the front of the answers.
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
                shown[number] = single_answers(trainings)
    return shown


def unpack_released(directory: Path) -> None:
    """Write the files of the released nasx to a directory. Needs the repository."""
    archive = subprocess.run(
        ["git", "archive", RELEASED, "nasx"], cwd=Path(__file__).parent.parent.parent, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True)


TOOLS: Mapping[str, Tool] = {
    "nasx": working_tree(NSGA2, recommend),
    "released": released,
    "random": working_tree(RandomSearch, single_answers),
}
LABELS: Mapping[str, str] = {
    "nasx": "nasx nsga2, working tree",
    "released": f"nasx nsga2, released ({RELEASED})",
    "random": "random, every network once",
}


def version_of(tool: str) -> str | None:
    """Return the version on which a tool's results depend; None if that is the working tree."""
    return RELEASED if tool == "released" else None
