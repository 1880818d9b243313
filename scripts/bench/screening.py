"""Whether the model behind `algorithm.screening` knows anything about trained, noisy objectives.

    nasx search --config digits.yaml algorithm=random algorithm.evaluations=300
    python -m scripts.bench.screening [--run-dir RUN] [--repeats 50]

Takes the networks of a run whose candidates were drawn at random. Again and again the model learns some of them and
judges the others: rank correlation of its optimistic costs with the measured ones, and how much hypervolume the network
adds that it chooses among eight, against the mean of the eight and the best of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from nasx import pareto
from nasx.algorithms.screening import MIN_ANSWERS, Screen, gains
from nasx.rundir import find_run
from nasx.store import RunStore
from nasx.trial import OBJECTIVES, Genotype, cost_matrix

KNOWN = (20, 40, 80, 160)  # networks learned
OFFSPRING = 8  # as in configs/algorithm/nsga2.yaml


def judge(
    genotypes: Sequence[Genotype], costs: NDArray[np.float64], known: int, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Learn `known` networks, judge the rest: rank correlation by objective, and gains of (chosen, mean, best)."""
    order = rng.permutation(len(genotypes))
    learned, rest = order[:known], order[known:]
    screen = Screen([1 + int(size) for size in np.max(genotypes, axis=0)])
    for i in learned:
        screen.learn(genotypes[i], tuple(costs[i]))
    front = costs[learned][pareto.front_mask(costs[learned])]
    predicted = screen.predict([genotypes[i] for i in rest])
    correlations = [float(spearmanr(p, c).statistic) for p, c in zip(predicted.T, costs[rest].T, strict=True)]
    offspring = rng.choice(rest, OFFSPRING, replace=False)
    added = gains(costs[offspring], front)
    chosen = screen.choose([genotypes[i] for i in offspring], front)
    return correlations, [float(added[chosen]), float(added.mean()), float(added.max())]


def draw(rows: Sequence[tuple[int, Any, Any]], objectives: Sequence[str], n: int) -> Table:
    drawn = Table(title=f"the screening model on {n} trained networks")
    drawn.add_column("learned", justify="right")
    for name in objectives:
        drawn.add_column(f"rank correlation, {name}", justify="right")
    drawn.add_column(f"hypervolume added: chosen of {OFFSPRING} / mean / best", justify="right")
    for known, correlations, added in rows:
        means, spreads = np.mean(correlations, axis=0), np.std(correlations, axis=0)
        figures = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(means, spreads, strict=True)]
        drawn.add_row(str(known), *figures, " / ".join(f"{x:.4f}" for x in np.mean(added, axis=0)))
    return drawn


def main(
    run_dir: Annotated[Path | None, typer.Option(help="Of a random search; the newest run by default.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Shuffles for each number of learned networks.")] = 50,
) -> None:
    """Judge the screening model on a run's networks."""
    with RunStore.open(find_run(run_dir, Path("runs")), read_only=True) as store:
        trials = [trial for trial in store.trials() if trial.is_complete and trial.replicate == 0]
        names = store.info.objectives
    genotypes = [trial.genotype for trial in trials]
    costs = cost_matrix(trials, [OBJECTIVES[name] for name in names])
    rows = []
    for known in track([k for k in KNOWN if MIN_ANSWERS <= k <= len(trials) // 2], console=Console(stderr=True)):
        judged = [judge(genotypes, costs, known, np.random.default_rng([known, i])) for i in range(repeats)]
        correlations, added = zip(*judged, strict=True)
        rows.append((known, correlations, added))
    Console().print(draw(rows, names, len(trials)))


if __name__ == "__main__":
    typer.run(main)
