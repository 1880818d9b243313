"""A whole search, from the command to the front: nasx beside the script of a good engineer (`optuna_script.py`).

    python -m scripts.bench whole_search [--quick] [--data-root DIR] [--repeats N]

The same space, recipe, epochs, validation images, number of trainings and objectives (validation error and the paper's
activation score), two processes of one thread each. A turn is a seed, for both; each search is a process of its own, so
that imports and the start of workers count. nasx has its defaults: it trains no network twice under two encodings, and
cuts trainings that can no longer reach the front; a training that is cut counts as one. The front is judged by the
hypervolume of the networks that are better than chance, from error 1 - 1/classes and introspectability 0.
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
FASHION = (  # 8,000 images to train on, networks and epochs that two cores can bear
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
    "scorer=activations",  # the objective of both
    "also_scored={}",
    "execution.device=cpu",
    f"execution.workers={PROCESSES}",
)


@dataclass(frozen=True)
class Comparison:
    """A search, as nasx's command has it."""

    name: str
    config: str
    overrides: tuple[str, ...]
    repeats: int


@dataclass(frozen=True)
class Outcome:
    """What a search took and found."""

    seconds: float
    hypervolume: float
    networks: int  # that count for it


def comparisons(options: Options) -> Iterator[Comparison | Skipped]:
    """What is compared, with what the user chose."""
    if options.quick:
        yield Comparison("digits", "digits", ("algorithm.evaluations=6", "training.epochs=2"), repeats=1)
        return
    yield Comparison("digits", "digits", (), options.repeats or 2)
    name = "8,000 Fashion-MNIST images"
    if options.data_root is None:
        yield Skipped(name, "no data root: name one with --data-root or NASX_DATA")
    else:
        yield Comparison(name, "fashion_mnist", (*FASHION, f"dataset.root={options.data_root}"), options.repeats or 1)


def hypervolume(points: Sequence[tuple[float, float]], data: SearchData) -> tuple[float, int]:
    """(hypervolume, networks that count) of (error, introspectability) pairs."""
    learned = [(error, -value) for error, value in points if better_than_chance(error, data.validation)]
    if not learned:
        return 0.0, 0
    return pareto.hypervolume(np.array(learned), [1 - 1 / data.n_classes, 0.0]), len(learned)


def by_nasx(comparison: Comparison, seed: int, data: SearchData, folder: Path) -> Outcome:
    """`nasx search`, as its user runs it."""
    run_dir = folder / f"nasx_{seed}"
    command = [sys.executable, "-m", "nasx", "search", "--config", comparison.config, "--run-dir", str(run_dir)]
    overrides = [*comparison.overrides, *COMMON, f"seed={seed}", f"runs_dir={folder}"]
    seconds = seconds_of(lambda: _run([*command, *overrides], folder))
    with Journal.open(run_dir, read_only=True) as store:
        metrics = [trial.metrics for trial in store.trials() if trial.is_complete and trial.replicate == 0]
    return Outcome(seconds, *hypervolume([(m["error"], m["introspectability"]) for m in metrics], data))


def by_optuna(task: Task, seed: int, data: SearchData, folder: Path) -> Outcome:
    """The peer's script."""
    task_file, result = folder / f"task_{seed}.npz", folder / f"optuna_{seed}.json"
    save_task(task_file, task, data)
    command = [sys.executable, "-m", "scripts.bench.optuna_script", str(task_file), str(result)]
    seconds = seconds_of(lambda: _run(command, folder))
    return Outcome(seconds, *hypervolume([tuple(point) for point in json.loads(result.read_text())], data))


def compare(comparison: Comparison) -> Iterator[Measurement]:
    """Wall time and hypervolume, the contenders in turns."""
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
    """Wall time and hypervolume on every dataset."""
    for comparison in comparisons(options):
        if isinstance(comparison, Skipped):
            yield comparison
        else:
            yield from compare(comparison)


def _run(command: Sequence[str], folder: Path) -> None:
    """A command to its end, one thread a process; what it says is shown where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with log.open("w") as output:
        status = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if status.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {status.returncode}:\n{log.read_text()[-2000:]}")
