"""A whole search, from the command to the front: nasx compared with a short Optuna script (`optuna_script.py`).

    python -m scripts.bench whole_search [--quick] [--data-root DIR] [--repeats N]

Both have the same space, recipe, epochs, validation images, number of trainings and objectives (validation error and
the paper's activation score), and two processes of one thread each. A turn is a seed, for both. Each search runs in its
own process, so that imports and the start of workers count. nasx has its defaults: it trains no network under two
encodings, and stops trainings that can no longer reach the front; a stopped training counts. The measure is the
hypervolume of the networks that are better than chance; reference point: error 1 - 1/classes, introspectability 0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nasx import pareto
from nasx.config.components import build
from nasx.config.compose import compose
from nasx.data.dataset import SearchData
from nasx.evaluation.train_and_score import better_than_chance
from nasx.experiment import Experiment
from nasx.runs.journal import Journal
from scripts.bench.measurement import Measurement, Options, Skipped, seconds_of
from scripts.bench.optuna_script import Task, save_task

PROCESSES = 2
FASHION = (  # 8,000 training images, with networks and epochs for two cores
    "split.train_images=8000",
    "split.validation_images=2000",
    "training.epochs=2",
    "training.batch_size=256",
    "space.channels=8",
    "space.cells=1",
    "algorithm.evaluations=24",
    "algorithm.population_size=8",
)
COMMON = (
    "scorer=activations",  # as in the peer's script
    "also_scored={}",
    "execution.device=cpu",
    f"execution.workers={PROCESSES}",
)


@dataclass(frozen=True)
class Comparison:
    """Search to be compared, as arguments of nasx."""

    name: str
    config: str
    overrides: tuple[str, ...]
    repeats: int


@dataclass(frozen=True)
class Outcome:
    """Time and result of a search."""

    seconds: float
    hypervolume: float
    networks: int  # better than chance


def comparisons(options: Options) -> Iterator[Comparison | Skipped]:
    """Yield the searches to be compared."""
    if options.quick:
        yield Comparison("digits", "digits", ("algorithm.evaluations=6", "training.epochs=2"), repeats=1)
        return
    yield Comparison("digits", "digits", (), options.repeats or 2)
    name = "8,000 Fashion-MNIST images"
    if options.data_root is None:
        yield Skipped(name, "no data root; set --data-root or NASX_DATA")
    else:
        yield Comparison(name, "fashion_mnist", (*FASHION, f"dataset.root={options.data_root}"), options.repeats or 1)


def hypervolume(points: Sequence[tuple[float, float]], data: SearchData) -> tuple[float, int]:
    """Return (hypervolume, number of networks better than chance) of (error, introspectability) pairs."""
    learned = [(error, -value) for error, value in points if better_than_chance(error, data.validation)]
    if not learned:
        return 0.0, 0
    return pareto.hypervolume(np.array(learned), [1 - 1 / data.n_classes, 0.0]), len(learned)


def by_nasx(comparison: Comparison, seed: int, data: SearchData, folder: Path) -> Outcome:
    """Run `nasx search`.

    Args:
        comparison: config and overrides.
        seed: of the search.
        data: images, for the error of chance.
        folder: for the run directory.
    """
    run_dir = folder / f"nasx_{seed}"
    command = [sys.executable, "-m", "nasx", "search", "--config", comparison.config, "--run-dir", str(run_dir)]
    overrides = [*comparison.overrides, *COMMON, f"seed={seed}", f"runs_dir={folder}"]
    seconds = seconds_of(lambda: _run([*command, *overrides], folder))
    with Journal.open(run_dir, read_only=True) as store:
        metrics = [trial.metrics for trial in store.trials() if trial.is_complete and trial.replicate == 0]
    return Outcome(seconds, *hypervolume([(m["error"], m["introspectability"]) for m in metrics], data))


def by_optuna(task: Task, seed: int, data: SearchData, folder: Path) -> Outcome:
    """Run the peer's script.

    Args:
        task: settings.
        seed: of the search, for file names.
        data: images.
        folder: for its files.
    """
    task_file, result = folder / f"task_{seed}.npz", folder / f"optuna_{seed}.json"
    save_task(task_file, task, data)
    command = [sys.executable, "-m", "scripts.bench.optuna_script", str(task_file), str(result)]
    seconds = seconds_of(lambda: _run(command, folder))
    return Outcome(seconds, *hypervolume([tuple(point) for point in json.loads(result.read_text())], data))


def compare(comparison: Comparison) -> Iterator[Measurement]:
    """Run both contenders in turns; yield wall time and hypervolume."""
    outcomes: dict[str, list[Outcome]] = {"nasx": [], "Optuna": []}
    for seed in range(comparison.repeats):
        config = compose(comparison.config, [*comparison.overrides, *COMMON, f"seed={seed}"])
        assembled = Experiment.from_config(config)
        experiment, dataset, data = assembled.config, assembled.dataset, assembled.data
        task = Task(
            trainings=experiment.evaluations,
            population=experiment.algorithm["population_size"],
            processes=PROCESSES,
            seed=seed,
            channels=experiment.space["channels"],
            cells=experiment.space["cells"],
            recipe=asdict(build(experiment.training, "training")),
            augmentation=asdict(dataset.augmentation),
        )
        with tempfile.TemporaryDirectory() as folder:
            outcomes["nasx"].append(by_nasx(comparison, seed, data, Path(folder)))
            outcomes["Optuna"].append(by_optuna(task, seed, data, Path(folder)))
    ours, theirs = outcomes["nasx"], outcomes["Optuna"]
    pairs = [f"{a.networks} and {b.networks}" for a, b in zip(ours, theirs, strict=True)]
    counts = f"networks better than chance: {', '.join(pairs)}"
    row = partial(Measurement, against="Optuna NSGA-II, DataLoader, float32", note=counts)
    yield row(
        f"{comparison.name}, {experiment.evaluations} trainings: wall time",
        ours=tuple(o.seconds for o in ours),
        theirs=tuple(t.seconds for t in theirs),
        target=2.0,
    )
    yield row(
        f"{comparison.name}, {experiment.evaluations} trainings: hypervolume",
        ours=tuple(o.hypervolume for o in ours),
        theirs=tuple(t.hypervolume for t in theirs),
        unit="",
        better="more",
        target=1.0,
    )


def benchmark(options: Options) -> Iterator[Measurement | Skipped]:
    """Yield wall time and hypervolume on every dataset."""
    for comparison in comparisons(options):
        if isinstance(comparison, Skipped):
            yield comparison
        else:
            yield from compare(comparison)


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a command to its end, one thread per process; exit with its output if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with log.open("w") as output:
        status = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if status.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {status.returncode}:\n{log.read_text()[-2000:]}")
