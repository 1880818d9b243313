"""The search loop with Ray Tune: several trials at a time on this machine's cores or GPUs, or on a cluster.

Tune runs the trials and notices when a worker dies; it neither ranks nor stores anything. Its searcher is an adapter
around our loop, its trainable an adapter around the evaluator, and its state is thrown away: the journal is the state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

# Read by Ray when it is imported. Loggers cost 20 ms a trial, the experiment's state grows with it and is never read;
# Ray's own memory monitor crashes Tune; its network stays on loopback unless a cluster is asked for; its workers, niced
# by 15, would starve beside any other program.
os.environ.update(
    {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    }
)

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nasx.errors import ResourceError, SettingError
from nasx.execution.loop import SearchLoop
from nasx.execution.workers import WorkerPlan, plan_workers
from nasx.trial import Evaluator, Job, Reason

MAX_RESTARTS = 10  # of Tune, should it crash; the journal loses nothing by it
GRACE = 30.0  # seconds beyond the time limit, within which a worker must stop a trial itself before it is killed


class RayExecution:
    """Evaluates jobs in worker processes that are reused from trial to trial."""

    in_process = False

    def __init__(
        self,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        workers: int | None = None,
        cpus_per_trial: int = 1,
        gpus_per_trial: float | None = None,
        address: str | None = None,
    ) -> None:
        """`workers` and `gpus_per_trial`: None, as this machine allows. `address`: of a running cluster's head, or
        auto; `workers` must be given then.
        """
        self.device = device
        self.address = address
        if address is None:
            self.plan = plan_workers(
                device, workers=workers, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial
            )
        elif workers is None:
            raise SettingError("workers", "must be given for a cluster: how many trials it runs at a time")
        else:  # this machine says nothing about the others
            plan_workers("cpu", workers=workers, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial)
            self.plan = WorkerPlan(workers, cpus_per_trial, gpus_per_trial or 0.0)

    @property
    def threads(self) -> int:
        return self.plan.cpus

    @property
    def planned_workers(self) -> int:
        return self.plan.workers

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished. `watch` is called in this thread, several times a second.

        Raises what `watch` and `evaluate` raise, after ending the workers.
        """
        with _ray(self.address, self.plan), _scratch() as scratch:
            for restart in range(MAX_RESTARTS + 1):
                watcher = Watcher(watch, LoopSearcher(loop))
                try:
                    _tuner(watcher, evaluate, self.plan, scratch).fit()
                except EndOfTune:
                    if watcher.error is None:
                        return
                    raise watcher.error from None
                except ray.exceptions.RayError as crash:
                    watcher.kill_workers()
                    loop.store.record_event("executor_restart", f"Ray Tune crashed: {crash}")
                    if restart == MAX_RESTARTS:
                        raise
                    watcher.searcher.requeue_all()


class EndOfTune(Exception):  # noqa: N818 - no error
    """Raised within Tune when the search has ended, well or not."""


class LoopSearcher(Searcher):  # type: ignore[misc]
    """Tune's view of the loop: a suggestion is a job, a completed trial an evaluation.

    Without metric and mode, for Tune must not rank. Tune pickles its searcher now and then: there is nothing to keep.
    """

    def __init__(self, loop: SearchLoop) -> None:
        super().__init__()
        self.loop = loop
        self.jobs: dict[str, Job] = {}
        self.too_late: set[str] = set()  # trials whose worker was killed for being stuck
        self.error: BaseException | None = None  # what went wrong in a method whose exceptions Tune swallows

    def suggest(self, trial_id: str) -> Any:
        job = self.loop.next_job() if self.error is None else None
        if job is not None:
            self.jobs[trial_id] = job
            return {"job": job}
        # None would make Tune wait for minutes if nothing were running
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
        if trial_id in self.too_late:
            how = f"took longer than search.time_limit, {self.loop.limits.time_limit:g} s, and would not stop"
            self.loop.lose(job, how, Reason.TIMEOUT)
        elif error:
            self.loop.lose(job, "its worker process died")
        elif result is None or "outcome" not in result:
            self.loop.requeue(job)
        else:
            outcome = pickle.loads(result["outcome"])
            if isinstance(outcome, BaseException):
                raise outcome
            self.loop.complete(job, outcome)

    def requeue_all(self) -> None:
        """Give the jobs back that no worker will finish."""
        for job in self.jobs.values():
            self.loop.requeue(job)
        self.jobs.clear()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialRunner(tune.Trainable):  # type: ignore[misc]
    """One worker: imports and data are paid once, with its evaluator, then it evaluates job after job."""

    def setup(self, config: dict[str, Any], *, evaluate: Evaluator) -> None:
        self.evaluate = evaluate
        self.job: Job = config["job"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.job = new_config["job"]
        return True

    def step(self) -> dict[str, Any]:
        try:
            outcome: object = self.evaluate(self.job)
        except Exception as error:  # the machine's fault, not the network's: the search has to hear it
            outcome = error
        # as bytes: Tune copies and inspects results, and knows nothing of ours
        return {"outcome": pickle.dumps(outcome), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...


class Watcher(tune.Callback):  # type: ignore[misc]
    """Called from Tune's own loop: watches the search, kills workers that are stuck, and ends Tune with the search."""

    def __init__(self, watch: Callable[[], None], searcher: LoopSearcher) -> None:
        self.watch = watch
        self.searcher = searcher
        self.limit = searcher.loop.limits.time_limit
        self.error: BaseException | None = None  # what ended the search
        self.running: dict[str, tuple[Any, float]] = {}  # trial id -> its worker, when it started
        self.workers: dict[Any, Any] = {}  # all that ever were, by id

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        worker = trial.temporary_state.ray_actor
        self.running[trial.trial_id] = worker, time.monotonic()
        self.workers[worker._actor_id] = worker

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        try:
            self.watch()
            self.kill_stuck_workers()
        except BaseException as exc:
            self.error = exc
        self.error = self.searcher.error or self.error
        if self.error is not None or self.searcher.loop.finished:
            self.kill_workers()
            raise EndOfTune

    def kill_stuck_workers(self) -> None:
        """Kill the workers that are far beyond the time limit: they should have stopped their trial themselves."""
        self.running = {name: entry for name, entry in self.running.items() if name in self.searcher.jobs}
        if self.limit is None:
            return
        for name, (worker, started) in self.running.items():
            if name not in self.searcher.too_late and time.monotonic() - started > self.limit + GRACE:
                self.searcher.too_late.add(name)
                ray.kill(worker)

    def kill_workers(self) -> None:
        """End all workers at once: Tune would wait for them, up to seconds."""
        for worker in self.workers.values():
            ray.kill(worker)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class KeepWorkers(FIFOScheduler):  # type: ignore[misc]
    """First come, first served, with idle workers kept.

    Tune ends a worker for which no trial waits: at the end of a generation, say, and wherever the algorithm waits for
    an answer. The next trial would then wait seconds for a new one. The cache that decides it is private to Tune:
    should it ever look different, a search is slower, and nothing else.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.workers = workers
        self.told = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        cache = getattr(getattr(tune_controller, "_tune_controller", None), "_actor_cache", None)
        if not self.told and cache is not None and hasattr(cache, "increase_max"):
            cache.increase_max(trial.placement_group_factory, self.workers)
            self.told = True


def _tuner(watcher: Watcher, evaluate: Evaluator, plan: WorkerPlan, scratch: str) -> tune.Tuner:
    trainable = tune.with_parameters(TrialRunner, evaluate=evaluate)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": plan.cpus, "gpu": plan.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=watcher.searcher,
            scheduler=KeepWorkers(plan.workers),
            num_samples=-1,
            max_concurrent_trials=plan.workers,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=scratch,
            verbose=0,
            callbacks=[watcher],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),  # retries are the loop's, which journals them
        ),
    )


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Where Tune keeps what nobody reads. Workers that are being killed may still write there."""
    return tempfile.TemporaryDirectory(prefix="nasx-", ignore_cleanup_errors=True)


@contextlib.contextmanager
def _ray(address: str | None, plan: WorkerPlan) -> Iterator[None]:
    """Ray for the time of the block: started on this machine, or joined where an address is given.

    Where this process has Ray already, that is used, and left running.
    """
    with _silent():
        if ray.is_initialized():
            yield
            return
        where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
        try:
            _check_reachable(address)
            _start(address, plan)
        except (OSError, RuntimeError, ValueError) as error:
            raise ResourceError(f"could not {where}: {error}".splitlines()[0]) from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise OSError where nothing listens at host:port. Ray would try for more than a minute, then end the process."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _start(address: str | None, plan: WorkerPlan) -> None:
    here = {"num_cpus": plan.workers * plan.cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    ray.init(address=address or "local", **quiet, **({} if address else here))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What Ray prints on stdout goes nowhere: the journal tells of each trial that is lost."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield
