"""Start or resume a search from its config: open the journal, and run the loop in the execution."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nasx
from nasx.config.components import build
from nasx.config.compose import compose_unchecked, load_resolved, to_yaml
from nasx.config.schema import ExperimentConfig
from nasx.errors import RunError
from nasx.execution.budget import SearchLimits
from nasx.execution.interrupt import Interrupted, interruptible
from nasx.execution.loop import SearchLoop
from nasx.experiment import Experiment, prepare, repeatability
from nasx.files import translate_disk_errors, write_atomically
from nasx.runs.directory import CONFIG, check_free, find_run, lock, mark_latest, new_run_dir, remove_temporary
from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo

if TYPE_CHECKING:
    from nasx.trackers.tracking import Tracking

INTERRUPTED = "interrupted"  # reason of a stop after Ctrl-C
# settings that may change when a search is resumed: amount, speed and location, but nothing that changes a result
CHANGEABLE = (
    "algorithm.evaluations",
    "search",
    "execution",
    "runs_dir",
    "dataset.root",
    "evaluation.table",
    "logger",
    "finetune_front",
    "provenance",
)
Watch = Callable[[SearchLoop], None]  # called whenever something may have changed


def start(
    config: Mapping[str, Any],
    *,
    run_dir: Path | None = None,
    watch: Watch | None = None,
    notify: Callable[[str], None] | None = None,
) -> SearchLoop:
    """Start a search in a new run directory, and return the finished loop.

    Args:
        config: as `nasx.config.compose.compose` returns it.
        run_dir: must not exist or be empty; None: a new directory below `runs_dir` of the config.
        watch: is called with the loop when its progress may have changed.
        notify: receives messages for the user, one line each.

    Raises RunError if the directory is not empty.
    """
    if run_dir is not None:
        check_free(run_dir)  # before the slow steps
        Journal.check_absent(run_dir)
    with ExitStack() as workers:
        return _begin(prepare(config, workers), config, run_dir, watch, notify)


def _begin(
    experiment: Experiment,
    config: Mapping[str, Any],
    run_dir: Path | None,
    watch: Watch | None,
    notify: Callable[[str], None] | None,
) -> SearchLoop:
    """Search in a new run directory."""
    settings = experiment.config
    if run_dir is None:
        run_dir = new_run_dir(settings.runs_dir, settings.name, datetime.now())
    with translate_disk_errors(str(run_dir)):
        run_dir.mkdir(parents=True, exist_ok=True)
    with lock(run_dir):
        remove_temporary(run_dir)  # of a search that was killed at its start
        write_atomically(
            run_dir / CONFIG, to_yaml(config).encode()
        )  # before run.db: every journal needs the config to be resumed
        info = RunInfo(
            name=settings.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            nasx_version=nasx.__version__,
            torch_version=version("torch"),
            python_version=platform.python_version(),
            seed=settings.seed,
            objectives=settings.objectives,
            n_classes=experiment.n_classes,
            class_names=experiment.class_names,
            config_hash=config_hash(config),
            workers=experiment.execution.plan.workers,
            alleles=experiment.allele_names,
        )
        with Journal.create(run_dir, info) as store:
            mark_latest(settings.runs_dir, run_dir)
            return _run(experiment, run_dir, store, watch, notify)


def resume(
    run_dir: Path,
    overrides: Sequence[str] = (),
    *,
    watch: Watch | None = None,
    notify: Callable[[str], None] | None = None,
) -> SearchLoop:
    """Resume a run to a bit-identical result, or extend it with `algorithm.evaluations=N`; return the finished loop.

    Args:
        run_dir: directory of the run.
        overrides: `key=value` settings that may change, see `CHANGEABLE`.
        watch: is called with the loop when its progress may have changed.
        notify: receives messages for the user, one line each.

    Raises RunError if the overrides change what has been measured.
    """
    run_dir = find_run(run_dir, run_dir)
    with lock(run_dir), Journal.open(run_dir) as store:
        config = compose_unchecked(run_dir / CONFIG, overrides)  # checked by `prepare`
        if config_hash(config) != store.info.config_hash:
            before = _flat(_essence(load_resolved(run_dir / CONFIG)))
            after = _flat(_essence(config))
            what = ", ".join(sorted(key for key in before | after if before.get(key) != after.get(key)))
            raise RunError(
                f"{run_dir} was started with other settings: {what or 'its config.yaml'} differs. A resumed search may "
                f"change {', '.join(CHANGEABLE[:-1])}; for other changes start a new run."
            )
        with ExitStack() as workers:
            return _run(prepare(config, workers), run_dir, store, watch, notify)


def _run(
    experiment: Experiment, run_dir: Path, store: Journal, watch: Watch | None, notify: Callable[[str], None] | None
) -> SearchLoop:
    config = experiment.config
    algorithm = experiment.algorithm(store.info.workers)
    if (free := repeatability(algorithm, store.info.workers)) and notify:
        notify(free)
    loop = SearchLoop(
        run_dir=run_dir,
        store=store,
        algorithm=algorithm,
        space=experiment.space,
        objectives=experiment.objectives,
        limits=SearchLimits(evaluations=config.evaluations, **vars(config.search)),
        early_stopping=config.early_stopping,
        gpus=experiment.execution.plan.gpus,
        max_parts=None if experiment.table is not None else experiment.recipe.batch_size // 2,
    )
    tracking = _tracking(config, run_dir)
    try:
        with interruptible(lambda: loop.stop(INTERRUPTED), at_once=experiment.execution.in_process) as check:

            def step() -> None:
                check()
                for each in (watch, tracking and tracking.watch):
                    if each:
                        each(loop)

            experiment.execution.run(loop, experiment.evaluate, step)
    except Interrupted:
        pass  # `loop.stopping` has the reason
    finally:
        if tracking:
            tracking.watch(loop)
            tracking.close(finished=loop.stopping != INTERRUPTED)
        loop.close()
    return loop


def _tracking(config: ExperimentConfig, run_dir: Path) -> Tracking | None:
    """Return the tracking of trials, if the config asks for it."""
    if config.logger is None:
        return None
    from nasx.trackers.tracking import Tracking

    logger = build(config.logger, "logger")
    return Tracking(logger, config.name, load_resolved(run_dir / CONFIG), run_dir)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a hash of all settings that affect a result; a run can be resumed only with an equal hash."""
    return hashlib.sha256(json.dumps(_essence(config), sort_keys=True).encode()).hexdigest()[:16]


def _essence(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the config without the settings that may change on resuming."""
    kept: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key in CHANGEABLE:
            continue
        kept[name] = _essence(value, f"{key}.") if isinstance(value, Mapping) else value
    return kept


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every leaf by its full key."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        leaves |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves
