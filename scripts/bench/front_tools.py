"""Tools that `scripts.bench.front_truth` compares, run by their normal commands, and the retraining of networks."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasx.config.compose import compose
from nasx.evaluation.train_and_score import better_than_chance
from nasx.experiment import Experiment, prepare
from nasx.trial import Evaluator, Genotype, Job, Reason, TrialStatus, arch_id, derive_seed
from scripts.bench.front_judgement import CORNER, Point, front
from scripts.bench.optuna_script import Task, save_task
from scripts.bench.tpe_script import Limits

ROOT = Path(__file__).parents[2]
PROCESSES = 2  # of one thread each, for every tool
DEVICE = ("execution.device=cpu",)
TRAINED = "history != '[]'"  # trials without an epoch were not trained: disconnected cells


@dataclass(frozen=True)
class Found:
    """Result of one search."""

    seconds: float  # from command to end
    trainings: int  # including those that were stopped early
    observed: tuple[Point, ...]  # one per complete training
    recommended: tuple[Point, ...]  # with the values that the tool shows
    genotypes: Mapping[str, Genotype]  # canonical, by arch_id, of all networks observed
    note: str = ""


@dataclass(frozen=True)
class Truth:
    """Network trained again with fresh seeds."""

    genotype: Genotype
    values: tuple[tuple[float, float], ...]  # (error, introspectability) of each training
    failed: int  # trainings without a score, which count as guessing


def environment(checkout: Path) -> dict[str, str]:
    """Return the environment of a process that imports nasx from `checkout`, with one thread."""
    return {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run(command: Sequence[str], checkout: Path, folder: Path) -> str:
    """Run a Python command to its end and return its stdout; exit with its output if it fails.

    Args:
        command: arguments of python.
        checkout: directory of the nasx to import.
        folder: current directory of the process.
    """
    done = subprocess.run(
        [sys.executable, *command], env=environment(checkout), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        output = (done.stdout + done.stderr)[-2000:]
        raise SystemExit(f"python {' '.join(command)} ended with status {done.returncode}:\n{output}")
    return done.stdout


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check out a commit of this repository in a temporary directory."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder, "released")
        subprocess.run([*git, "add", "--detach", "--quiet", str(checkout), commit], check=True)
        try:
            imported = run(["-c", "import nasx; print(nasx.__file__)"], checkout, Path(folder)).strip()
            if not Path(imported).is_relative_to(checkout):
                raise SystemExit(f"expected nasx of {checkout}, but python imports {imported}")
            yield checkout
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)


def by_nasx(checkout: Path, overrides: Sequence[str], folder: Path) -> Found:
    """Run `nasx search` of a checkout on the digits, then `nasx pareto`, which is not part of the time.

    Args:
        checkout: directory of the nasx to run.
        overrides: of the config.
        folder: for the run directory.
    """
    run_dir, config = folder / "run", checkout / "configs" / "digits.yaml"
    options = [*overrides, *DEVICE, f"execution.workers={PROCESSES}", f"runs_dir={folder}"]
    started = time.perf_counter()
    run(["-m", "nasx", "search", "--config", str(config), "--run-dir", str(run_dir), *options], checkout, folder)
    seconds = time.perf_counter() - started
    shown = json.loads(run(["-m", "nasx", "pareto", "--run-dir", str(run_dir), "--format", "json"], checkout, folder))
    with closing(sqlite3.connect(run_dir / "run.db")) as database:
        (trainings,) = database.execute(f"SELECT count(*) FROM trials WHERE {TRAINED}").fetchone()
        (retrainings,) = database.execute(f"SELECT count(*) FROM trials WHERE {TRAINED} AND replicate > 0").fetchone()
        rows = database.execute("SELECT arch_id, genotype, metrics FROM trials WHERE status = 'complete'").fetchall()
    return Found(
        seconds=seconds,
        trainings=trainings,
        observed=tuple(_point(name, json.loads(metrics)) for name, _, metrics in rows),
        recommended=tuple(_point(member["arch_id"], member) for member in shown["front"]),
        genotypes={name: tuple(json.loads(genotype)) for name, genotype, _ in rows},
        note=f"{retrainings} of a known network",
    )


def by_tpe(overrides: Sequence[str], seconds: float, folder: Path) -> Found:
    """Run the peer's script; it recommends the front of the observed values.

    Args:
        overrides: of the digits' config.
        seconds: deadline, from the start of the command.
        folder: for its files.
    """
    config = compose("digits", overrides)
    experiment = Experiment.from_config(config)
    space = experiment.space
    task = Task(
        trainings=experiment.config.evaluations,
        population=0,  # TPE has no population
        processes=PROCESSES,
        seed=experiment.config.seed,
        channels=experiment.config.space["channels"],
        cells=experiment.config.space["cells"],
        recipe=asdict(experiment.recipe),
        augmentation=asdict(experiment.dataset.augmentation),
    )
    scorer = {name: value for name, value in experiment.config.scorer.items() if name != "_target_"}
    task_file, result = folder / "task.npz", folder / "result.json"
    save_task(task_file, task, experiment.data)
    limits = Limits(time.time() + seconds, experiment.score_seed, scorer)
    options = [f"--deadline={limits.deadline}", f"--score-seed={limits.score_seed}", f"--scorer={json.dumps(scorer)}"]
    run(["-m", "scripts.bench.tpe_script", str(task_file), str(result), *options], ROOT, folder)
    found = json.loads(result.read_text())
    genotypes: dict[str, Genotype] = {}
    observed = []
    for training in found["trainings"]:
        genotype = space.canonical(tuple(training["genotype"]))
        name = arch_id(space.name, space.settings, genotype)
        genotypes[name] = genotype
        observed.append(Point(name, *training["values"]))
    learned = [point for point in observed if better_than_chance(point.error, experiment.data.validation)]
    return Found(
        seconds=seconds,
        trainings=len(observed),
        observed=tuple(observed),
        recommended=tuple(front(learned)),
        genotypes=genotypes,
        note=", ".join(f"{found[what]} {what}" for what in ("late", "pruned", "failed")),
    )


def train_again(
    genotypes: Mapping[str, Genotype], overrides: Sequence[str], turn: int, fresh_seeds: int
) -> dict[str, Truth]:
    """Train and score networks with seeds that no search uses, in processes of one thread.

    Args:
        genotypes: by arch_id.
        overrides: of the digits' config.
        turn: enters the seeds.
        fresh_seeds: trainings per network.
    """
    config = compose("digits", [*overrides, *DEVICE, "execution=serial", "also_scored={}"])
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_prepare, initargs=(config,)) as pool,
    ):
        jobs = [
            Job(
                arch_id=name,
                replicate=k,
                genotype=genotype,
                seed=derive_seed("truth", turn, name, k),
                weights_file=Path(folder, f"{name}_{k}.safetensors"),
            )
            for name, genotype in genotypes.items()
            for k in range(fresh_seeds)
        ]
        values = dict(zip(((job.arch_id, job.replicate) for job in jobs), pool.map(_train, jobs), strict=True))
    found = {}
    for name, genotype in genotypes.items():
        own = [values[name, k] for k in range(fresh_seeds)]
        found[name] = Truth(genotype, tuple(value or CORNER for value in own), own.count(None))
    return found


_evaluate: Evaluator  # set in each process of the pool


def _prepare(config: Mapping[str, Any]) -> None:
    """Read the data and build the components once per process."""
    global _evaluate
    _evaluate = prepare(config).evaluate


def _train(job: Job) -> tuple[float, float] | None:
    """Return (error, introspectability); None if the network is no better than chance or has no score."""
    evaluation = _evaluate(job)
    if evaluation.status is TrialStatus.COMPLETE:
        return evaluation.metrics["error"], evaluation.metrics["introspectability"]
    if evaluation.reason is Reason.ERROR:
        raise RuntimeError(f"{job.arch_id} could not be trained:\n{evaluation.detail}")
    return None


def _point(name: str, metrics: Mapping[str, Any]) -> Point:
    return Point(name, metrics["error"], metrics["introspectability"])
