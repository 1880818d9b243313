"""Cost of 16,000 ask/tell steps with free evaluations: nasx, pymoo and Optuna.

    python -m scripts.bench.ask_tell [--evaluations 16000] [--optuna-evaluations 4000]

The space has 8^12 genotypes, so that it is never exhausted. "with journal" runs the search loop, which writes every
candidate and trial to run.db, as a search does; the others call only the algorithm. Each searcher runs in its own
process, on one thread. Seconds are CPU seconds; memory is the peak of the process minus its peak before the first ask.
Optuna's time grows faster than linearly; it makes fewer steps, and the times are shown as measured.
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
    """Table of costs that computes missing entries."""

    def __missing__(self, genotype: Genotype) -> tuple[float, float]:
        metrics = SPACE.evaluate(genotype).metrics
        return metrics["error"], -metrics["introspectability"]


class FreeProblem:
    """Problem with free evaluations, in the form that the searchers of this folder take."""

    space = SPACE
    costs = Costs()


def with_journal(problem: Any, seed: int, evaluations: int) -> None:
    """Run nasx's default algorithm through the search loop and the journal."""
    algorithm = NSGA2(problem=Problem(gene_sizes=SPACE.gene_sizes, n_objectives=2, seed=seed))
    with search_loop(SPACE, algorithm, evaluations) as loop:
        while (job := loop.next_job()) is not None:
            loop.complete(job, SPACE.evaluate(job.genotype))


SEARCHERS: dict[str, Callable[[Any, int, int], object]] = {
    "nasx nsga2, with journal": with_journal,
    "nasx nsga2": ours(NSGA2),
    "nasx nsga2, unscreened": ours(NSGA2, screening=1),
    "nasx nsga2_paper": ours(NSGA2Paper),
    "nasx random": ours(RandomSearch),
    "pymoo NSGA-II": pymoo,
    "Optuna NSGA-II": optuna,
}


def measure(name: str, evaluations: int) -> tuple[float, float]:
    """Run a search in this process and return its (CPU seconds, MiB)."""
    SEARCHERS[name](FreeProblem(), 1, 100)  # imports and first allocations
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    SEARCHERS[name](FreeProblem(), 0, evaluations)
    seconds = time.process_time() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def draw(rows: Sequence[tuple[str, int, float, float]]) -> Table:
    """Draw one row per searcher: (name, ask/tell steps, CPU seconds, MiB)."""
    drawn = Table(title="ask/tell steps, free evaluations, one thread")
    drawn.add_column("searcher")
    for heading in ("steps", "CPU seconds", "ms per step", "memory, MiB"):
        drawn.add_column(heading, justify="right")
    for name, steps, seconds, memory in rows:
        drawn.add_row(name, f"{steps:,}", f"{seconds:.1f}", f"{1000 * seconds / steps:.2f}", f"{memory:.0f}")
    return drawn


def main(
    evaluations: Annotated[int, typer.Option(min=1, help="Ask/tell steps.")] = 16_000,
    optuna_evaluations: Annotated[int, typer.Option(min=1, help="The same for Optuna.")] = 4_000,
) -> None:
    """Measure the cost of each searcher without evaluations."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes started below
    rows = []
    for name in SEARCHERS:
        steps = optuna_evaluations if name.startswith("Optuna") else evaluations
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append((name, steps, *pool.apply(measure, (name, steps))))
    Console().print(draw(rows))


if __name__ == "__main__":
    typer.run(main)
