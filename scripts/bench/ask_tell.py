"""What a search costs by itself: 16,000 questions and answers where the answers are free, ours beside pymoo and Optuna.

    python -m scripts.bench.ask_tell [--evaluations 16000] [--optuna-evaluations 4000]

The space has 8^12 genotypes, so that it is never exhausted. "with journal": through the search loop, every candidate
and trial written to run.db, as a search does it; the others ask and tell the bare algorithm. Each searcher runs in a
process of its own, on one thread: seconds are CPU seconds, memory is what the process holds at its peak beyond what it
held before the first question. Optuna's time grows faster than linearly; it does fewer and is shown as measured.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nasx.algorithms.nsga2 import NSGA2, NSGA2Paper
from nasx.algorithms.random_search import RandomSearch
from nasx.protocols import Problem
from nasx.trial import Genotype
from scripts.bench.made_up import Space, search_loop
from scripts.bench.searchers import optuna, ours, pymoo

SPACE = Space((8,) * 12)


class Costs(defaultdict[Genotype, tuple[float, float]]):
    """Answers as a table that is filled when it is read."""

    def __missing__(self, genotype: Genotype) -> tuple[float, float]:
        metrics = SPACE.answer(genotype).metrics
        return metrics["error"], -metrics["introspectability"]


class FreeProblem:
    """The problem as the searchers of this folder want it."""

    space = SPACE
    costs = Costs()


def journalled(problem: Any, seed: int, evaluations: int) -> None:
    """Our default through the loop and the journal."""
    algorithm = NSGA2(problem=Problem(gene_sizes=SPACE.gene_sizes, n_objectives=2, seed=seed))
    with search_loop(SPACE, algorithm, evaluations) as loop:
        while (job := loop.next_job()) is not None:
            loop.complete(job, SPACE.answer(job.genotype))


SEARCHERS: dict[str, Callable[[Any, int, int], object]] = {
    "nasx nsga2, with journal": journalled,
    "nasx nsga2": ours(NSGA2),
    "nasx nsga2, unscreened": ours(NSGA2, screening=1),
    "nasx nsga2_paper": ours(NSGA2Paper),
    "nasx random": ours(RandomSearch),
    "pymoo NSGA-II": pymoo,
    "Optuna NSGA-II": optuna,
}


def measure(name: str, evaluations: int) -> tuple[float, float]:
    """(CPU seconds, MiB) of a search in this process."""
    SEARCHERS[name](FreeProblem(), 1, 100)  # imports and first allocations
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    SEARCHERS[name](FreeProblem(), 0, evaluations)
    seconds = time.process_time() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def draw(rows: Sequence[tuple[str, int, float, float]]) -> Table:
    drawn = Table(title="questions and answers, answers free, one thread")
    drawn.add_column("searcher")
    for heading in ("pairs", "CPU seconds", "ms a pair", "memory, MiB"):
        drawn.add_column(heading, justify="right")
    for name, pairs, seconds, memory in rows:
        drawn.add_row(name, f"{pairs:,}", f"{seconds:.1f}", f"{1000 * seconds / pairs:.2f}", f"{memory:.0f}")
    return drawn


def main(
    evaluations: Annotated[int, typer.Option(min=1, help="Questions and answers.")] = 16_000,
    optuna_evaluations: Annotated[int, typer.Option(min=1, help="The same for Optuna.")] = 4_000,
) -> None:
    """Measure what each searcher costs by itself."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes started below
    rows = []
    for name in SEARCHERS:
        pairs = optuna_evaluations if name.startswith("Optuna") else evaluations
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append((name, pairs, *pool.apply(measure, (name, pairs))))
    Console().print(draw(rows))


if __name__ == "__main__":
    typer.run(main)
