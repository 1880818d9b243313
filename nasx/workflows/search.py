"""Start or resume a search from its config: open the journal, and run the loop in the execution."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nasx
from nasx.config.auto import derived_settings
from nasx.config.components import build
from nasx.config.identity import CHANGEABLE, config_hash
from nasx.config.plain import Config, as_plain, get, put, replace_leaves, to_yaml
from nasx.config.schema import ExperimentConfig
from nasx.data.digest import CORRECTIONS, FileWatch
from nasx.execution.budget import SearchLimits
from nasx.execution.interrupt import Interrupted, advise, interruptible, last_step, settle
from nasx.execution.loop import SearchLoop
from nasx.experiment import Experiment, made_ready, prepare, repeatability
from nasx.files import translate_disk_errors, write_atomically
from nasx.planning.notices import notices
from nasx.runs.directory import (
    CONFIG,
    CORRECTIONS_COPY,
    check_free,
    file_in,
    find_run,
    lock,
    mark_latest,
    new_run_dir,
    remove_temporary,
    resume_line,
)
from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo
from nasx.runs.stored_run import DEFAULT, VERSIONS, ReadOptions, StoredRun, open_run, version_notice, versions
from nasx.workflows.warm_start import with_warm_start

if TYPE_CHECKING:
    from nasx.trackers.tracking import Tracking

INTERRUPTED = "interrupted"  # reason of a stop after Ctrl-C
WATCH_SECONDS = 5.0  # between two looks at the files of images that stay on disk
Watch = Callable[[SearchLoop], None]  # called whenever something may have changed
FeatureWatch = Callable[[int, int], None]  # called with (finished, all) images whose features a backbone computes


def start(
    config: Mapping[str, Any],
    *,
    run_dir: Path | None = None,
    warm_start: Path | None = None,
    watch: Watch | None = None,
    notify: Callable[[str], None] | None = None,
    watch_features: FeatureWatch | None = None,
) -> SearchLoop:
    """Start a search in a new run directory, and return the finished loop.

    Args:
        config: as `nasx.config.compose.compose` returns it.
        run_dir: must not exist or be empty; None: a new directory below `runs_dir` of the config.
        warm_start: run whose front is trained first; None: begin as the config says.
        watch: is called with the loop when its progress may have changed.
        notify: receives messages for the user, one line each.
        watch_features: is called with (finished, all) images whose features by a backbone are computed.

    Raises RunError if the directory is not empty.
    """
    if run_dir is not None:
        check_free(run_dir)  # before the slow steps
        Journal.check_absent(run_dir)
    plain: Config = replace_leaves(as_plain(config), _without_variables)
    with interruptible():
        options = ReadOptions(notify=notify or DEFAULT.notify, watch_features=watch_features or DEFAULT.watch_features)
        planned = _planned(plain, options, notify)
        if warm_start is not None:
            planned = with_warm_start(planned, warm_start, notify or (lambda line: None))
        with ExitStack() as workers:
            return _begin(prepare(planned, workers, options), planned, run_dir, watch, notify)


def _planned(config: Config, options: ReadOptions, notify: Callable[[str], None] | None) -> Config:
    """Return a config with values for the settings that are `auto`, and their reasons in its provenance."""
    if not derived_settings(config):
        return config
    from nasx.planning.plan import plan, set_by_speed  # most searches need none

    planned, reasons = plan(config, notify or (lambda line: None), options=options)
    if (names := set_by_speed(planned, reasons)) and notify:
        notify(f"{names} depend on this machine's speed; to repeat the search: --config RUN/config.yaml.")
    return put(planned, "provenance.derived", reasons)


def _without_variables(key: str, value: Any) -> Any:
    """Return a place of data with the variables of the environment replaced: in a run's config they would not be."""
    if key.startswith("dataset.") and isinstance(value, str) and not Path(value).exists():
        return os.path.expandvars(value)
    return value


def _begin(
    experiment: Experiment,
    config: Config,
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
        if experiment.table is None and experiment.corrections is not None:
            write_atomically(run_dir / CORRECTIONS_COPY, experiment.corrections.content)
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
            config=config,
        )
        with Journal.create(run_dir, info, experiment.content) as store:
            mark_latest(settings.runs_dir, run_dir)
            return _run(experiment, config, store, watch, notify)


def resume(
    run_dir: Path,
    overrides: Sequence[str] = (),
    *,
    trust_code: bool = False,
    watch: Watch | None = None,
    notify: Callable[[str], None] | None = None,
    watch_features: FeatureWatch | None = None,
) -> SearchLoop:
    """Resume a run to a bit-identical result, or extend it with `algorithm.evaluations=N`; return the finished loop.

    Other places of the data are remembered in config.yaml, after their content has been found the same.

    Args:
        run_dir: directory of the run.
        overrides: `key=value` settings that may change: those of `CHANGEABLE`, and places of the data.
        trust_code: import any class that the run's config names, not only those of nasx and of installed packages.
        watch: is called with the loop when its progress may have changed.
        notify: receives messages for the user, one line each.
        watch_features: is called with (finished, all) images whose features by a backbone are computed.

    Raises:
        RunError: if the overrides change what has been measured, or if the run was edited.
        DataError: if the data are not those that the search has read.
    """
    run_dir = find_run(run_dir, run_dir)
    say = notify or (lambda line: None)
    options = ReadOptions(
        tuple(overrides),
        trust_code=trust_code,
        notify=say,
        watch_features=watch_features or DEFAULT.watch_features,
        resumes=True,
    )
    opened = open_run(run_dir, overrides, may_change=CHANGEABLE, trust_code=trust_code, write=True, notify=say)
    with interruptible(), lock(run_dir), opened as run, ExitStack() as workers:
        advise(resume_line(run_dir))
        experiment = made_ready(Experiment.of_stored(run, options), workers)
        if not run.data:
            run.journal.record_data(experiment.content)
            say("an older nasx started this run: the content of its data is not known; it is recorded now.")
        _remember_places(run)
        _restore_corrections(run, experiment)
        _record_versions(run, say)
        return _run(experiment, run.config, run.journal, watch, notify)


def finetuning_weight(run_dir: Path, overrides: Sequence[str], *, trust_code: bool = False) -> float | None:
    """Return the weight of the regularizer with which the front is to be fine-tuned; None: it is not."""
    with open_run(run_dir, overrides, may_change=CHANGEABLE, trust_code=trust_code) as run:
        weight: float | None = run.config.get("finetune_front")
        return weight


def _remember_places(run: StoredRun) -> None:
    """Write other places of the data into config.yaml, and no other setting."""
    with open_run(run.run_dir) as stored:
        before = stored.config
    after = before
    for key in run.places:
        absent = object()
        if (place := get(run.config, key, absent)) not in (absent, get(before, key, absent)):
            after = put(after, key, place)
    is_hashed = not run.info.config and config_hash(after) != run.info.config_hash  # an older run: it must stay
    if after != before and not is_hashed:
        write_atomically(run.run_dir / CONFIG, to_yaml(after).encode())


def _restore_corrections(run: StoredRun, experiment: Experiment) -> None:
    """Write the run's copy of its corrections again if it is gone, from the same file."""
    record, copy = run.data.get(CORRECTIONS), file_in(run.run_dir, CORRECTIONS_COPY)
    if record is None or copy.exists() or experiment.corrections is None:
        return
    content = experiment.corrections.content
    if hashlib.sha256(content).hexdigest() == record.facts.get("file_digest"):
        write_atomically(copy, content)


def _record_versions(run: StoredRun, notify: Callable[[str], None]) -> None:
    """Report other versions than those of the last session once, and record them."""
    torch, python = version("torch"), platform.python_version()
    if notice := version_notice(run, torch, python):
        notify(notice)
        run.journal.record_event(VERSIONS, versions(nasx.__version__, torch, python))


def _run(
    experiment: Experiment,
    resolved: Config,
    store: Journal,
    watch: Watch | None,
    notify: Callable[[str], None] | None,
) -> SearchLoop:
    config, run_dir = experiment.config, store.run_dir
    algorithm = experiment.algorithm(store.info.workers)
    if (free := repeatability(algorithm, store.info.workers, experiment.measures_latency)) and notify:
        notify(free)
    if notify:
        for line in notices(experiment):
            notify(line)
    if (words := experiment.corrections_in_words) and notify:
        notify(f"Corrections: {words}.")
    if (note := experiment.execution.plan.note) and notify and not experiment.execution.in_process:
        notify(f"Workers: {note}.")
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
    tracking = _tracking(config, resolved, run_dir)
    files_are_same = _watch_files(experiment)
    advise(resume_line(run_dir))
    try:
        with (
            last_step(partial(_take_back, loop)),
            interruptible(lambda: loop.stop(INTERRUPTED), at_once=False) as check,
        ):

            def step() -> None:
                check()
                store.check_place()
                files_are_same()
                for each in (watch, tracking and tracking.watch):
                    if each:
                        each(loop)

            experiment.execution.run(loop, experiment.evaluate, step)
    except Interrupted as interrupted:
        if interrupted.signum != signal.SIGINT:
            raise
        settle()  # the caller shows the result so far; `loop.stopping` has the reason
    finally:
        if tracking and store.is_in_place:
            tracking.watch(loop)
            tracking.close(finished=loop.stopping != INTERRUPTED)
        loop.close()
    return loop


def _take_back(loop: SearchLoop) -> None:
    """Take back all running jobs, in another thread than that of the search, which does not end."""
    with Journal.open(loop.run_dir) as store:
        loop.take_back(store)


def _watch_files(experiment: Experiment) -> Callable[[], None]:
    """Return a function that raises DataError if files of images on disk change; it looks every few seconds."""
    if experiment.table is not None:
        return lambda: None
    files, last = FileWatch(experiment.data), time.monotonic()

    def check() -> None:
        nonlocal last
        if time.monotonic() - last > WATCH_SECONDS:
            last = time.monotonic()
            files.check()

    return check


def _tracking(config: ExperimentConfig, resolved: Config, run_dir: Path) -> Tracking | None:
    """Return the tracking of trials, if the config asks for it."""
    if config.logger is None:
        return None
    from nasx.trackers.tracking import Tracking

    return Tracking(build(config.logger, "logger"), config.name, resolved, run_dir)
