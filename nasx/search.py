"""A search from its config: builds the components, opens the journal, and lets the executor run the loop."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nasx
from nasx import config as configs
from nasx.config import Experiment
from nasx.data.images import SearchData
from nasx.data.splits import split
from nasx.errors import RunError
from nasx.evaluation import EvaluationSpec
from nasx.execution.loop import SearchLimits, SearchLoop
from nasx.files import write_atomically
from nasx.protocols import Dataset, SearchSpace
from nasx.rundir import CONFIG, find_run, lock, mark_latest, new_run_dir
from nasx.store import RunInfo, RunStore
from nasx.trial import OBJECTIVES, Objective, derive_seed

# what may differ when a search is resumed: how much, how fast and where, but nothing that changes a result
CHANGEABLE = ("algorithm.evaluations", "search", "execution", "runs_dir", "dataset.root", "provenance")

Watch = Callable[[SearchLoop], None]  # called whenever something may have changed


@dataclass(frozen=True)
class Parts:
    """The components of an experiment and its data, ready to search."""

    experiment: Experiment
    dataset: Dataset
    data: SearchData
    space: SearchSpace
    spec: EvaluationSpec
    execution: Any  # SerialExecution, RayExecution, or whatever has their `run` and `planned_workers`
    objectives: tuple[Objective, ...]


def prepare(config: Mapping[str, Any]) -> Parts:
    """Build every component that a composed config names, and read and split the data.

    Raises ConfigError, DataError or ResourceError naming what is wrong. Reads training images alone.
    """
    experiment = configs.read(config)
    space = configs.build(experiment.space, "space")
    recipe = configs.build(experiment.training, "training")
    scorer = configs.build(experiment.scorer, "scorer")
    also = [configs.build(node, f"also_scored.{name}") for name, node in experiment.also_scored.items()]
    execution = configs.build(experiment.execution, "execution")
    dataset: Dataset = configs.build(experiment.dataset, "dataset")
    data = split_data(dataset, experiment)
    spec = EvaluationSpec(
        space=space,
        recipe=recipe,
        augmentation=dataset.augmentation,
        scorer=scorer,
        also_scored=tuple(also),
        constraints=experiment.constraints,
        score_seed=derive_seed(experiment.seed, "score"),
        device=execution.device,
        time_limit=experiment.search.time_limit,
    )
    objectives = tuple(OBJECTIVES[name] for name in experiment.objectives)
    return Parts(experiment, dataset, data, space, spec, execution, objectives)


def split_data(dataset: Dataset, experiment: Experiment) -> SearchData:
    """The training and validation images of an experiment: the same ones whenever they are asked for."""
    return split(dataset.train(), **vars(experiment.split), seed=derive_seed(experiment.seed, "split"))


def describe(parts: Parts) -> str:
    """What a search would do, for `--dry-run`."""
    data, space, experiment = parts.data, parts.space, parts.experiment
    channels, height, width = data.shape
    lines = {
        "name": f"{experiment.name}, seed {experiment.seed}",
        "dataset": f"{parts.dataset.name}: {len(data.train):,} training and {len(data.validation):,} validation "
        f"images, {height} x {width}, {channels} channel{'s' * (channels > 1)}, {data.n_classes} classes",
        "space": f"{space.name}: {math.prod(space.gene_sizes):,} encodings, {dict(space.settings)}",
        "training": f"{parts.spec.recipe}",
        "scorer": f"{parts.spec.scorer.name}; recorded beside it: "
        + (", ".join(scorer.name for scorer in parts.spec.also_scored) or "none"),
        "objectives": ", ".join(f"{o.direction} {o.name}" for o in parts.objectives),
        "algorithm": f"{experiment.algorithm['_target_'].rpartition('.')[2]}, {experiment.evaluations:,} evaluations",
        "execution": f"{type(parts.execution).__name__}, {parts.execution.planned_workers} at a time",
    }
    return "\n".join(f"{name + ':':<12}{text}" for name, text in lines.items())


def start(config: Mapping[str, Any], *, run_dir: Path | None = None, watch: Watch | None = None) -> SearchLoop:
    """Search from the beginning, in a new run directory, and return the loop as it ended.

    `run_dir` is made below runs_dir where none is given. Raises RunError where it holds a run already.
    """
    parts = prepare(config)
    experiment = parts.experiment
    if run_dir is None:
        run_dir = new_run_dir(experiment.runs_dir, experiment.name, datetime.now())
    run_dir.mkdir(parents=True, exist_ok=True)
    with lock(run_dir):
        info = RunInfo(
            name=experiment.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            nasx_version=nasx.__version__,
            torch_version=version("torch"),
            python_version=platform.python_version(),
            seed=experiment.seed,
            objectives=experiment.objectives,
            n_classes=parts.data.n_classes,
            class_names=parts.data.train.class_names,
            config_hash=config_hash(config),
            workers=parts.execution.planned_workers,
        )
        with RunStore.create(run_dir, info) as store:
            write_atomically(run_dir / CONFIG, configs.to_yaml(config).encode())
            mark_latest(experiment.runs_dir, run_dir)
            return _run(parts, run_dir, store, watch)


def resume(run_dir: Path, overrides: Sequence[str] = (), *, watch: Watch | None = None) -> SearchLoop:
    """Go on with a run as if it had never stopped; with `algorithm.evaluations=N` also beyond its end.

    Raises RunError where the overrides would change what has been measured.
    """
    run_dir = find_run(run_dir, run_dir)
    with lock(run_dir), RunStore.open(run_dir) as store:
        before = configs.load_resolved(run_dir / CONFIG)
        config = configs.load_resolved(run_dir / CONFIG, overrides)
        if config_hash(config) != store.info.config_hash:
            changed = sorted(k for k, v in _flat(_essence(config)).items() if _flat(_essence(before)).get(k) != v)
            what = ", ".join(changed) or "its config.yaml"
            raise RunError(
                f"{run_dir} was begun with other settings: {what} differs. A resumed search may change "
                f"{', '.join(CHANGEABLE[:-1])}; for anything else start a new run."
            )
        return _run(prepare(config), run_dir, store, watch)


def _run(parts: Parts, run_dir: Path, store: RunStore, watch: Watch | None) -> SearchLoop:
    experiment = parts.experiment
    algorithm = configs.build(
        experiment.algorithm,
        "algorithm",
        gene_sizes=parts.space.gene_sizes,
        n_objectives=len(parts.objectives),
        seed=derive_seed(experiment.seed, "algorithm"),
        key=parts.space.canonical,
        is_connected=parts.space.is_connected,
        workers=store.info.workers,
    )
    limits = SearchLimits(
        evaluations=experiment.evaluations,
        retries=experiment.search.retries,
        max_failure_share=experiment.search.max_failure_share,
    )
    loop = SearchLoop(
        run_dir=run_dir,
        store=store,
        algorithm=algorithm,
        space=parts.space,
        objectives=parts.objectives,
        limits=limits,
    )
    with _interruptible(loop):
        parts.execution.run(loop, parts.spec, parts.data, lambda: watch(loop) if watch else None)
    return loop


@contextmanager
def _interruptible(loop: SearchLoop) -> Iterator[None]:
    """Ctrl-C once: finish what runs, then end. Twice: KeyboardInterrupt, now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        if loop.stopping is not None:
            raise KeyboardInterrupt
        loop.stop("interrupted")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of all settings that shape a result: equal for the runs that may continue one another."""
    return hashlib.sha256(json.dumps(_essence(config), sort_keys=True).encode()).hexdigest()[:16]


def _essence(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The config without what may change on resuming."""
    kept: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key in CHANGEABLE:
            continue
        kept[name] = _essence(value, f"{key}.") if isinstance(value, Mapping) else value
    return kept


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf by its full key."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        leaves |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves
