"""Execution with Ray Tune: several trials at a time on this machine's cores or GPUs, or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import site
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

# Ray reads these when it is imported. Loggers cost 20 ms per trial; saving Tune's state takes longer with each trial
# and is of no use; Ray's memory monitor crashes Tune. The network stays on loopback unless a cluster is used, and no
# usage statistics are sent. Workers with Ray's niceness of 15 starve next to other programs. Without the long idle
# time, workers started ahead end between Tune's reservation of their cores and its first trial.
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

import ray
from pydantic import Field

import nasx
from nasx import machine
from nasx.config.settings import checked
from nasx.errors import ResourceError, ServerDiedError, SettingError
from nasx.execution import imports as worker_imports
from nasx.execution import leftovers
from nasx.execution.imports import gc_paused
from nasx.execution.interrupt import end_within, is_ending, last_step, relayed
from nasx.execution.loop import SearchLoop
from nasx.execution.mps import multi_process_service
from nasx.execution.stuck import GRACE, StoppedWorkers
from nasx.execution.workers import HERE, Device, GPUsPerTrial, WorkerPlan, WorkerSettings, plan_workers
from nasx.places import free_bytes, is_writable, temporary_folder
from nasx.runs.directory import resume_line
from nasx.trial import Evaluator

# of Ray in its directory, with seven digits of a process id: 19 bytes are left for the path of the temporary folder
LONGEST_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
PATIENCE = 30.0  # seconds to wait for worker processes before the search starts without them
MAX_RESTARTS = 10  # of Tune after crashes; the journal loses nothing
IMPORTS = "nasx.execution.tuner"  # needed by every worker
SHARED_MEMORY = "/dev/shm"
STORE_SHARE = 0.3  # of the memory for data that workers share, as in Ray
STORE_LEAST = 100 * 2**20  # bytes; Ray needs 75 MiB
STORE_ENOUGH = 10**9  # bytes: with less shared memory than this and than the share, files are used
# Undocumented variable of Ray: modules that workers import before they get work. Saves 3 s per search on two busy
# cores, and 2.8 s of processor time
PRELOAD = "RAY_preload_python_modules"
UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")  # processes for clusters, logs and dashboards


class Servers:
    """Ray's servers on this machine. If one dies, calls of Ray take a minute, and then it ends this process."""

    def __init__(self, folder: str) -> None:
        """`folder`: Ray's."""
        self.folder = folder
        self.found: dict[str, leftovers.Process] = {}

    def died(self) -> str:
        """Return a sentence if a server has died, else ""."""
        if len(self.found) < len(leftovers.SERVERS):  # they start one after the other
            self.found = leftovers.servers(os.getpid(), self.folder) | self.found
        for name, (pid, started) in self.found.items():
            if leftovers.start_time(pid) != started:
                return f"Ray's {name} has died: it was killed, or memory was short. All finished trials are kept."
        return ""


class RayExecution:
    """Evaluate jobs in worker processes, which are reused from trial to trial."""

    in_process = False

    @checked
    def __init__(
        self,
        *,
        device: Device = "auto",
        workers: Annotated[int, Field(ge=1)] | None = None,
        cpus_per_trial: Annotated[int, Field(ge=1)] = 1,
        gpus_per_trial: GPUsPerTrial | None = None,
        mps: bool = False,
        address: str | None = None,
    ) -> None:
        """Plan the workers; for a cluster with GPUs only after joining it.

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
        self._servers: Servers | None = None  # of the Ray that this object has started
        self._make_plan = partial(
            plan_workers,
            device,
            workers=workers,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            place=HERE if address is None else "the cluster",
        )
        self._plan: WorkerPlan | None = None
        if address is not None and workers is None:
            raise SettingError("workers", "must be set for a cluster: the number of trials at a time")
        if mps and address is not None:
            raise SettingError("mps", "is for this machine only: start the service on the nodes of a cluster")
        if address is None or device == "cpu" or gpus_per_trial == 0:
            self._plan = self._make_plan()
            if mps and not self._plan.gpus:
                raise SettingError(
                    "mps", "needs trials on GPUs, but these trials run on the CPU: set execution.mps=false"
                )
        else:  # the number of GPUs is known once the cluster is joined
            WorkerSettings(device=device, workers=workers, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial)

    @property
    def plan(self) -> WorkerPlan:
        """Number of workers, and resources of each trial.

        Joins a cluster, to count its GPUs. Raises ResourceError if that fails, or if it has fewer GPUs than a trial
        needs.
        """
        if self._plan is None:
            with self.started():
                self._wait_for_start()
                gpus = int(ray.cluster_resources().get("GPU", 0))
            self._plan = self._make_plan(all_gpus=gpus)
        return self._plan

    @contextmanager
    def started(self, imports: Sequence[str] = ()) -> Iterator[None]:
        """Run Ray during the block: start it on this machine, or join the cluster at `address`.

        It starts in the background, and `run` waits for it. If this process already runs Ray, use that and leave it
        running. `imports`: modules that the workers import ahead.
        """
        if ray.is_initialized() or self._starting is not None:
            yield
            return
        # Linux ends Ray's processes with the thread that started them: this thread lives as long as the block
        with (
            _temporary_folder() as folder,
            self._shared_gpus(folder) as variables,
            relayed() as self._handle_signals,
            _quiet_threads(),
            ThreadPoolExecutor(1, thread_name_prefix="ray") as thread,
        ):
            self._servers = Servers(folder)
            self._starting = thread.submit(_start, self.address, self._plan, [IMPORTS, *imports], folder, variables)
            try:
                # soon: without its raylet, Ray ends this process by itself, without a word
                with end_within(0.2, self._servers.died, status=2):
                    yield
            finally:
                self._shut_down()

    def _wait_for_start(self) -> None:
        """Wait until Ray has started, and raise its exception if it has not."""
        if self._starting is None:
            return
        while not wait_for([self._starting], timeout=0.1).done:
            pass  # handle signals
        self._starting.result()
        self._handle_signals()

    def _shut_down(self) -> None:
        with contextlib.suppress(Exception):  # `run` has raised it already, if it was called
            self._wait_for_start()
        self._starting = self._servers = None
        with _silent():
            ray.shutdown()

    def _scratch(self) -> AbstractContextManager[str]:
        """Return a directory for Tune's files."""
        return _temporary_folder() if self._servers is None else nullcontext(f"{self._servers.folder}/tune")

    def _shared_gpus(self, folder: str) -> AbstractContextManager[dict[str, str]]:
        """Start the Multi-Process Service if `mps` is set; yield environment variables for the workers."""
        return multi_process_service(Path(folder, "mps")) if self.mps else nullcontext({})

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished.

        Args:
            loop: provides jobs and receives evaluations.
            evaluate: is sent to every worker once.
            watch: is called in this thread several times per second.

        Raises the exceptions of `watch` and `evaluate`, after ending the workers.
        """
        with self.started(), self._scratch() as scratch, _silent():
            with gc_paused():  # while Ray starts in the background
                from nasx.execution.tuner import EndOfTune, LoopSearcher, Watcher, make_tuner

            self._wait_for_start()
            here, plan = self.address is None, self.plan
            resources = {"cpu": 1 if here else plan.cpus, "gpu": plan.gpus}
            stall = loop.limits.stall_limit
            stopped = None if stall is None else StoppedWorkers(stall + GRACE + 5.0)  # later than those with a trial

            def watch_servers() -> None:
                if died := self._died():
                    raise ServerDiedError(f"{died} {resume_line(loop.run_dir)}")
                if stopped is not None and self._servers is not None:
                    stopped.kill(set(self._servers.found.values()))
                watch()

            for restart in range(MAX_RESTARTS + 1):
                searcher = LoopSearcher(loop, lambda: is_ending() or bool(self._died()), imported_ahead=here)
                watcher = Watcher(watch_servers, searcher)
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
                    watch_servers()
                    watcher.kill_workers()
                    loop.store.record_event("executor_restart", f"Ray Tune crashed: {crash}")
                    if restart == MAX_RESTARTS:
                        raise
                    watcher.searcher.requeue_all()

    def _died(self) -> str:
        return "" if self._servers is None else self._servers.died()


def _start(
    address: str | None,
    plan: WorkerPlan | None,
    imports: Sequence[str],
    folder: str,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Start Ray on this machine, or join a cluster.

    Args:
        address: host:port of the cluster's head; None: this machine.
        plan: of the workers; None for a cluster whose GPUs are not yet counted.
        imports: modules that workers import ahead.
        folder: directory for Ray's files.
        variables: further environment variables of the workers.

    Raises ResourceError if that fails.
    """
    local: dict[str, Any] = {}
    if address is None:
        assert plan is not None
        # one core of Ray per worker, whatever the threads of a trial: Ray starts a process ahead for each core
        local = {
            "num_cpus": plan.workers,
            "num_gpus": plan.all_gpus,
            "include_dashboard": False,
            # for tasks with a demand of memory, of which there are none; Ray would not start if little is free
            "_memory": 2**30,
            **_object_store(folder),
        }
    action = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
    ready = Path(folder, "ready")
    ahead = {
        PRELOAD: worker_imports.__name__,
        worker_imports.MODULES: ",".join(imports),
        worker_imports.READY: str(ready),
        **(variables or {}),
    }
    if address is None:
        ahead["RAY_TMPDIR"] = folder  # for a cluster, Ray finds the head through its default directory
        if os.environ.get(machine.THREADS) == str(machine.threads_by_quota()):  # set for this process, see `main`
            ahead[machine.THREADS] = "1"  # as Ray does if there is no quota; training sets the threads of torch
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() and not is_writable(Path.home() / ".ray"):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # Ray would write one to that directory
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
        raise ResourceError(f"could not {action}: {error}".splitlines()[0]) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    if plan is not None and address is None:
        # Ray starts at most one process ahead per core of the machine, whatever `num_cpus` is
        _wait_for_workers(min(plan.workers, os.cpu_count() or 1), ready)


def _object_store(folder: str) -> dict[str, Any]:
    """Return size and directory of the memory for data that workers share, within the limits of this process.

    Ray would look at the limit of one control group only. Docker's /dev/shm has 64 MB by default: then the data are
    mapped from files in `folder`.
    """
    size = max(STORE_LEAST, int(STORE_SHARE * machine.memory().amount))
    shared = int(0.95 * free_bytes(SHARED_MEMORY))
    if shared >= min(size, STORE_ENOUGH):
        return {"object_store_memory": min(size, shared), "_plasma_directory": SHARED_MEMORY}
    return {"object_store_memory": size, "_plasma_directory": folder}


def _python_path() -> str:
    """Return the PYTHONPATH by which workers find this nasx before Ray sends them the path of this process.

    nasx may be a checkout that is not installed. Directories of installed packages are left out, as they would precede
    Python's standard library.
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
    """Wait until `n` workers started ahead have created their file in `ready`.

    If trials are shorter than the delay of a worker, Tune gives them all to the other one. And Ray starts more
    processes if it is asked for workers before those started ahead have registered.
    """
    deadline = time.monotonic() + PATIENCE
    while len(list(ready.iterdir())) < n and time.monotonic() < deadline:
        time.sleep(0.02)


def _check_reachable(address: str | None) -> None:
    """Raise OSError if nothing listens at host:port. Ray would retry for over a minute, then end the process."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """Create a temporary directory with room for Ray's files and short enough for its sockets, and remove it.

    It is removed however the search ends. Those of dead searches are removed, too.
    """
    with temporary_folder(leftovers.PREFIX, tail=len(LONGEST_SOCKET)) as folder:
        leftovers.sweep(str(Path(folder).parent))
        with leftovers.kept(folder), last_step(partial(leftovers.remove, folder)):
            yield folder


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what Ray prints on stdout: the journal records each lost trial."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Discard errors of Ray in its own threads, e.g. if a signal ends its servers while it starts."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, ray.exceptions.RayError):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
