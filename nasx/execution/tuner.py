"""Adapters of the search loop to Ray Tune: its searcher, trainable, callback and scheduler.

Tune runs the trials and detects dead workers; it ranks and stores nothing. Its state is discarded, as the journal is
the state.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nasx.errors import DeviceError, ServerDiedError
from nasx.evaluation.watchdog import read_hang_report
from nasx.execution.interrupt import retake
from nasx.execution.jobs import Key, key
from nasx.execution.loop import SearchLoop
from nasx.execution.stuck import RunningTrials
from nasx.execution.workers import FailureStreak, end_worker, why_ended
from nasx.trial import Evaluator, Job, Reason

SETTLING = 0.3  # seconds after the death of a worker in which the end of the search explains it


class EndOfTune(Exception):  # noqa: N818 - no error
    """Raised inside Tune to end it with the search."""


class LoopSearcher(Searcher):  # type: ignore[misc]
    """Tune's searcher: a suggestion is a job of the loop, a completed trial an evaluation.

    It has no metric and mode, so that Tune does not rank. Tune pickles its searcher at times: the state is empty.
    """

    def __init__(
        self, loop: SearchLoop, is_ending: Callable[[], bool] = lambda: False, *, imported_ahead: bool = True
    ) -> None:
        """Start without jobs.

        Args:
            loop: provides jobs and receives evaluations.
            is_ending: whether the search is being ended, so that its workers die for this reason.
            imported_ahead: whether workers have imported everything before their first trial.
        """
        super().__init__()
        self.loop = loop
        self.is_ending = is_ending
        self.running = RunningTrials(loop.limits, imported_ahead=imported_ahead)
        self.jobs: dict[str, Job] = {}
        self.too_late: dict[str, str] = {}  # trials whose stuck worker was killed -> why
        self.suspended: set[Key] = set()  # trials that were repeated because the machine was suspended
        self.error: BaseException | None = None  # exception of a method whose exceptions Tune swallows

    def suggest(self, trial_id: str) -> Any:
        job = self.loop.next_job() if self.error is None else None
        if job is not None:
            self.jobs[trial_id] = job
            return {"job": job}
        # with None and no running trial, Tune would wait for minutes
        return Searcher.FINISHED if not self.jobs else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        job = self.jobs.pop(trial_id, None)
        if job is None:
            return
        try:
            self._take(job, trial_id, result, error)
        except BaseException as exc:
            self.error = self.error or exc

    def _take(self, job: Job, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        was_suspended = self.running.end(trial_id)
        hung = read_hang_report(job.weights_file, self.loop.limits.stall_limit) if error else None
        if (late := self.too_late.pop(trial_id, None)) is not None:
            self.loop.lose(job, late, Reason.TIMEOUT)
        elif hung is not None and was_suspended and self._repeat(job):
            return
        elif hung is not None:
            self.loop.lose(job, hung, Reason.TIMEOUT)
        elif error and (why := why_ended(job.weights_file)) is not None:
            self.loop.replace_worker(job, why)
        elif error and self._ends_soon():
            self.loop.requeue(job)
        elif error:
            self.loop.lose(job, "its worker process died")
        elif result is None or "outcome" not in result:
            self.loop.requeue(job)
        else:
            outcome = pickle.loads(result["outcome"])
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome.reason is Reason.TIMEOUT and was_suspended and self._repeat(job):
                return
            self.loop.complete(job, outcome)

    def _repeat(self, job: Job) -> bool:
        """Take back a job, once, whose time went by while the machine was suspended. Returns whether it did."""
        if key(job) in self.suspended:
            return False
        self.suspended.add(key(job))
        self.loop.store.record_event("suspended", f"trial {job.arch_id}: repeated, the machine was suspended")
        self.loop.requeue(job)
        return True

    def _ends_soon(self) -> bool:
        """Return whether a worker has died with the search: a signal to all processes may reach this one last."""
        deadline = time.monotonic() + SETTLING
        while not self.is_ending() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.is_ending()

    def requeue_all(self) -> None:
        """Requeue the jobs that no worker will finish."""
        for job in self.jobs.values():
            self.loop.requeue(job)
        self.jobs.clear()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialRunner(tune.Trainable):  # type: ignore[misc]
    """One worker: loads imports and data once, with the evaluator, then evaluates one job after another."""

    def setup(self, config: dict[str, Any], *, evaluate: Evaluator) -> None:
        self.evaluate = evaluate
        self.job: Job = config["job"]
        self.streak = FailureStreak()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.job = new_config["job"]
        return True

    def step(self) -> dict[str, Any]:
        outcome: object
        why_ended(self.job.weights_file)  # remove the note left by a search that was killed before reading it
        try:
            outcome = self.evaluate(self.job)
        except DeviceError as error:
            end_worker(self.job, error.problem)
        except Exception as error:  # a fault of the machine, not of the network: pass it to the search
            outcome = error
        else:
            if why := self.streak.add(self.job, outcome):
                end_worker(self.job, why)
        # as bytes: Tune copies and inspects results
        return {"outcome": pickle.dumps(outcome), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...


class Watcher(tune.Callback):  # type: ignore[misc]
    """Tune's callback: watches the search, kills stuck workers, and ends Tune with the search."""

    def __init__(self, watch: Callable[[], None], searcher: LoopSearcher) -> None:
        self.watch = watch
        self.searcher = searcher
        self.error: BaseException | None = None  # exception that ended the search
        self.workers: set[Any] = set()  # all workers so far

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        retake()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        worker = trial.temporary_state.ray_actor
        self.workers.add(worker)
        if (job := self.searcher.jobs.get(trial.trial_id)) is not None:
            self.searcher.running.begin(trial.trial_id, worker, job)
            self.searcher.loop.begin(job)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune retains about 15 kB of metrics per finished trial; clear them
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()
        trial.last_result.pop("outcome", None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        try:
            self.watch()
            self.kill_stuck_workers()
        except BaseException as exc:
            self.error = exc
        self.error = self.searcher.error or self.error
        if self.error is not None or self.searcher.loop.finished:
            if not isinstance(self.error, ServerDiedError):  # a dead server of Ray cannot kill
                self.kill_workers()
            raise EndOfTune

    def kill_stuck_workers(self) -> None:
        """Kill the workers that did not stop their trial in time."""
        searcher = self.searcher
        if searcher.running.look():
            for trial, worker, why in searcher.running.stuck():
                if trial not in searcher.too_late:
                    searcher.too_late[trial] = why
                    ray.kill(worker)

    def kill_workers(self) -> None:
        """Kill all workers at once: Tune would wait seconds for them."""
        for worker in self.workers:
            ray.kill(worker)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class KeepWorkers(FIFOScheduler):  # type: ignore[misc]
    """First come, first served; idle workers are kept, and on this machine Ray's processes started ahead are used."""

    def __init__(self, workers: int, *, started_ahead: bool) -> None:
        super().__init__()
        self.workers = workers
        self.started_ahead = started_ahead
        self.is_set_up = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if self.is_set_up:
            return
        self.is_set_up = True
        controller = getattr(tune_controller, "_tune_controller", None)
        keep_idle_workers(controller, trial, self.workers)
        if self.started_ahead:
            use_processes_started_ahead(controller, trial)


# The following two rely on private attributes of Tune. If these change, a search only becomes slower. Gains are medians
# of `python -m scripts.bench ray_hooks` on two busy cores.


def keep_idle_workers(controller: Any, trial: Any, workers: int) -> None:
    """Let Tune keep as many idle workers as it ever uses.

    It ends a worker for which no trial is waiting, e.g. at the end of a generation, and the next trial waits seconds
    for a new one. Saves 170 ms per trial of a search of 32 short ones, and 3.8 s of processor time.
    """
    with contextlib.suppress(AttributeError, TypeError):
        controller._actor_cache.increase_max(trial.placement_group_factory, workers)


def use_processes_started_ahead(controller: Any, trial: Any) -> None:
    """Start workers without a runtime environment, so that they use the processes that Ray has started ahead.

    Tune gives every worker an environment, for which Ray starts new processes, while those with all imports done stay
    idle. Saves 13 s per search, and 11 s of processor time; 3 s each compared with no processes ahead.
    """
    with contextlib.suppress(AttributeError, TypeError):
        runner = trial.get_trainable_cls()
        controller._class_cache._cache[runner] = ray.remote(runner)


def make_tuner(
    watcher: Watcher,
    evaluate: Evaluator,
    *,
    workers: int,
    resources: Mapping[str, float],
    started_ahead: bool,
    scratch: str,
) -> tune.Tuner:
    """Return a tuner whose `fit` ends with EndOfTune.

    Args:
        watcher: callback with the searcher.
        evaluate: is sent to every worker once.
        workers: trials at a time.
        resources: of a worker, as Ray names them.
        started_ahead: whether Ray has started processes that wait for workers.
        scratch: directory for Tune's files.
    """
    trainable = tune.with_parameters(TrialRunner, evaluate=evaluate)
    return tune.Tuner(
        tune.with_resources(trainable, dict(resources)),
        tune_config=tune.TuneConfig(
            search_alg=watcher.searcher,
            scheduler=KeepWorkers(workers, started_ahead=started_ahead),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=scratch,
            verbose=0,
            callbacks=[watcher],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),  # the loop retries, and records it in the journal
        ),
    )
