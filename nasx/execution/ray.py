"""The search loop with Ray Tune: several trials at a time on this machine's cores or GPUs, or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import site
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray

import nasx
from nasx.errors import ResourceError, SettingError
from nasx.execution import worker_imports
from nasx.execution.imports import uncollected
from nasx.execution.loop import SearchLoop
from nasx.execution.mps import multi_process_service
from nasx.execution.workers import WorkerPlan, check_settings, plan_workers
from nasx.trial import Evaluator

# Read by Ray when it is imported. Loggers cost 20 ms a trial, the experiment's state grows with it and is never read;
# Ray's own memory monitor crashes Tune; its network stays on loopback unless a cluster is asked for, and its makers are
# told nothing; its workers, niced by 15, would starve beside any other program; those started ahead would be ended
# between Tune's claim of their cores and its first trial.
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
        "RAY_idle_worker_killing_time_threshold_ms": "3600000",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
)
PATIENCE = 30.0  # seconds for worker processes to start before the search goes on without waiting
MAX_RESTARTS = 10  # of Tune, should it crash; the journal loses nothing by it
IMPORTS = "nasx.execution.tuner"  # what every worker needs
# names the modules that Ray's workers import before there is anything to do; undocumented. Saves 3 s per search on two
# busy cores, and 2.8 s of processor time
PRELOAD = "RAY_preload_python_modules"
UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")  # processes for clusters, logs and dashboards


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
        mps: bool = False,
        address: str | None = None,
    ) -> None:
        """Plan the workers; those of a cluster with GPUs only when it has been joined.

        Args:
            device: of the trials; auto: GPUs if there are any.
            workers: trials at a time; None: as many as this machine allows. Required for a cluster.
            cpus_per_trial: cores and threads of a trial.
            gpus_per_trial: a share of a GPU, or a whole number; 0: the CPU; None: decided by `plan_workers`.
            mps: start NVIDIA's Multi-Process Service for the trials of this machine's GPUs.
            address: host:port of a running cluster's head, or "auto"; None: start Ray on this machine.
        """
        self.address = address
        self.mps = mps
        self._starting: Future[None] | None = None  # Ray's start, while it runs in the background
        self._make_plan = partial(
            plan_workers, device, workers=workers, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial
        )
        self._plan: WorkerPlan | None = None
        if address is not None and workers is None:
            raise SettingError("workers", "must be given for a cluster: how many trials it runs at a time")
        if mps and address is not None:
            raise SettingError("mps", "is for this machine only: start the service on the nodes of a cluster")
        if address is None or device == "cpu" or gpus_per_trial == 0:
            self._plan = self._make_plan()
            if mps and not self._plan.gpus:
                raise SettingError("mps", "needs trials on GPUs, and here they run on the CPU: set execution.mps=false")
        else:  # the number of GPUs is known once the cluster is joined
            check_settings(device, workers, cpus_per_trial, gpus_per_trial)

    @property
    def plan(self) -> WorkerPlan:
        """The workers and what each trial gets.

        For a cluster this joins it, to ask how many GPUs it has. Raises ResourceError if that fails, or if it has fewer
        GPUs than a trial needs.
        """
        if self._plan is None:
            with self.started():
                if self._starting is not None:
                    self._starting.result()
                gpus = int(ray.cluster_resources().get("GPU", 0))
            self._plan = self._make_plan(all_gpus=gpus, place="the cluster")
        return self._plan

    @contextmanager
    def started(self, imports: Sequence[str] = ()) -> Iterator[None]:
        """Ray for the time of the block: started on this machine, or joined where an address is given.

        It starts in the background: `run` waits for it. Where this process has Ray already, that is used, and left
        running.
        """
        if ray.is_initialized() or self._starting is not None:
            yield
            return
        # Linux ends Ray's processes with the thread that started them: this one lives as long as the block
        with (
            _temporary_folder() as folder,
            self._shared_gpus(folder) as variables,
            ThreadPoolExecutor(1, thread_name_prefix="ray") as thread,
        ):
            self._starting = thread.submit(_start, self.address, self._plan, [IMPORTS, *imports], folder, variables)
            try:
                yield
            finally:
                with contextlib.suppress(Exception):  # what `run` has raised, if anybody has waited for it
                    self._starting.result()
                self._starting = None
                with _silent():
                    ray.shutdown()

    def _shared_gpus(self, folder: str) -> AbstractContextManager[dict[str, str]]:
        """Start the Multi-Process Service if it is wanted; yields the variables of the workers."""
        return multi_process_service(Path(folder, "mps")) if self.mps else nullcontext({})

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished. `watch` is called in this thread, several times a second.

        Raises what `watch` and `evaluate` raise, after ending the workers.
        """
        with self.started(), _temporary_folder() as scratch, _silent():
            with uncollected():  # here: while Ray starts
                from nasx.execution.tuner import EndOfTune, LoopSearcher, Watcher, make_tuner

            if self._starting is not None:
                self._starting.result()
            here, plan = self.address is None, self.plan
            resources = {"cpu": 1 if here else plan.cpus, "gpu": plan.gpus}
            for restart in range(MAX_RESTARTS + 1):
                watcher = Watcher(watch, LoopSearcher(loop))
                tuner = make_tuner(
                    watcher,
                    evaluate,
                    workers=plan.workers,
                    resources=resources,
                    started_ahead=here,
                    scratch=scratch,
                )
                try:
                    tuner.fit()
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


def _start(
    address: str | None,
    plan: WorkerPlan | None,
    imports: Sequence[str],
    folder: str,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Start Ray on this machine, its files in `folder` and its workers importing, or join the cluster at `address`.

    `plan`: of this machine; None: not known yet, for a cluster. `variables`: of the workers' environment.
    Raises ResourceError if that fails.
    """
    local: dict[str, Any] = {}
    if address is None:
        assert plan is not None
        # Ray's cores are our workers here, however many threads a trial has: it starts a process for each of them ahead
        local = {
            "num_cpus": plan.workers,
            "num_gpus": plan.all_gpus,
            "include_dashboard": False,
        }
    where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
    ready = Path(folder, "ready")
    ahead = {
        PRELOAD: worker_imports.__name__,
        worker_imports.MODULES: ",".join(imports),
        worker_imports.READY: str(ready),
        **(variables or {}),
    }
    if address is None:
        ahead["RAY_TMPDIR"] = folder  # a cluster's head is looked up in the usual one
    before = {name: os.environ.get(name) for name in (*ahead, "PYTHONPATH")}
    os.environ.update(ahead)
    os.environ["PYTHONPATH"] = _python_path()
    try:
        ready.mkdir()
        _check_reachable(address)
        with _fewer_processes():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **local,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ResourceError(f"could not {where}: {error}".splitlines()[0]) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    if plan is not None and address is None:
        # Ray starts no more processes ahead than the machine has cores, whatever `num_cpus` says
        _wait_for_workers(min(plan.workers, os.cpu_count() or 1), ready)


def _python_path() -> str:
    """PYTHONPATH by which workers find this nasx before Ray has sent them the path of this process.

    It may be a checkout that is not installed. Folders of installed packages are left out: they would come before
    Python's own modules.
    """
    home = str(Path(nasx.__file__).parents[1])
    found = [] if home in {*site.getsitepackages(), site.getusersitepackages()} else [home]
    return os.pathsep.join(filter(None, [*found, os.environ.get("PYTHONPATH", "")]))


@contextmanager
def _fewer_processes() -> Iterator[None]:
    """In the block, Ray starts without the processes that a search does not use.

    Saves 3 s per search on two busy cores, and 1.5 s of processor time (`python -m scripts.bench ray_hooks`). Relies on
    a private class of Ray: methods that it does not have are not replaced, and a search only becomes slower.
    """
    node = getattr(getattr(getattr(ray, "_private", None), "node", None), "Node", None)
    before = {name: vars(node)[name] for name in UNUSED if node is not None and name in vars(node)}
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(node, name, method)


def _wait_for_workers(n: int, ready: Path) -> None:
    """Until the workers that Ray has started ahead have imported everything, as their files in `ready` tell.

    Where trials are shorter than a worker is late, Tune would give them all to the other one; and Ray, asked for
    workers before it knows those that it has started, would start more.
    """
    deadline = time.monotonic() + PATIENCE
    while len(list(ready.iterdir())) < n and time.monotonic() < deadline:
        time.sleep(0.02)


def _check_reachable(address: str | None) -> None:
    """Raise OSError where nothing listens at host:port. Ray would try for more than a minute, then end the process."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """A folder for what nobody reads afterwards. Workers that are being killed may still write there."""
    # sockets lie in it, whose paths must be short: not where TMPDIR says
    parent = "/tmp" if Path("/tmp").is_dir() else None
    folder = tempfile.mkdtemp(prefix="nasx-", dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _silent() -> Iterator[None]:
    """What Ray prints on stdout goes nowhere: the journal tells of each trial that is lost."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield
