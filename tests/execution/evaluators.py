"""Evaluators that workers can import: some answer, some do what a trial should never do."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from nasx.errors import DeviceError, ResourceError
from nasx.evaluation import watchdog
from nasx.trial import Evaluation, Job, Reason
from tests.execution.searches import measured, trained

KILLERS = ((0, 1), (0, 2))  # on the front: every search here comes to them


def first_time(job: Job) -> bool:
    """Whether this job is evaluated for the first time."""
    mark = job.weights_file.parent / "seen"
    mark.parent.mkdir(parents=True, exist_ok=True)
    if mark.exists():
        return False
    mark.touch()
    return True


def with_process_id(job: Job) -> Evaluation:
    """Leaves a file named after the process that evaluates."""
    time.sleep(0.02)
    evaluation = measured(job)
    (job.weights_file.parents[1] / f"pid-{os.getpid()}").touch()
    return evaluation


def with_environment(job: Job) -> Evaluation:
    """Leaves a file where this process has the environment that Tune gives to workers of its own."""
    if "PL_DISABLE_FORK" in os.environ:
        (job.weights_file.parents[2] / "own-environment").touch()
    return measured(job)


def slowly(job: Job) -> Evaluation:
    """As `with_process_id`, long enough for two workers to share the trials."""
    evaluation = with_process_id(job)
    time.sleep(0.7)
    return evaluation


def killed_once(job: Job) -> Evaluation:
    """Two networks kill their worker the first time."""
    if job.genotype in KILLERS and first_time(job):
        os.kill(os.getpid(), signal.SIGKILL)
    return measured(job)


def no_disk(job: Job) -> Evaluation:
    raise ResourceError("no space left on the disk while writing weights.")


def broken(job: Job) -> Evaluation:
    raise ZeroDivisionError("a bug")


def stuck_once(job: Job) -> Evaluation:
    """The first network's worker hears no signal: its process is stopped."""
    if job.genotype == (0, 0) and first_time(job):
        os.kill(os.getpid(), signal.SIGSTOP)
    return measured(job)


def hangs(job: Job) -> Evaluation:
    """The first network hangs outside Python, where no alarm is heard."""
    watchdog.GRACE = 0.2
    with watchdog.watchdog(None, 0.2, watchdog.hang_file(job.weights_file)):
        if job.genotype == (0, 0):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock
    return measured(job)


def out_of_order(job: Job) -> Evaluation:
    """A training whose time depends on the network: several at once end in another order than they began."""
    time.sleep(0.04 * (sum(job.genotype) % 4))
    return trained(job)


def process_ids(run_dir: Path) -> set[int]:
    return {int(path.name.removeprefix("pid-")) for path in (run_dir / "archs").glob("pid-*")}


def in_one_process(job: Job) -> bool:
    """Whether this is the process that evaluated the second network first."""
    mark = job.weights_file.parents[1] / "victim"
    if job.genotype == (0, 1) and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(str(os.getpid()))
    return mark.exists() and mark.read_text() == str(os.getpid())


def breaks_its_device(job: Job) -> Evaluation:
    """One process can no longer use its GPU, and is faster than the other."""
    if in_one_process(job):
        raise DeviceError("CUDA error: an illegal memory access was encountered")
    return slowly(job)


def fails_in_one_process(job: Job) -> Evaluation:
    """Whatever one process evaluates fails, at once."""
    if in_one_process(job):
        return Evaluation.failed(Reason.ERROR, "RuntimeError: made up")
    return slowly(job)


def runs_out_of_memory_in_one_process(job: Job) -> Evaluation:
    """One process has no memory left, however little a job needs."""
    if in_one_process(job):
        return Evaluation.failed(Reason.OUT_OF_MEMORY, "made up: no memory left")
    return slowly(job)


def raises_for_one_network(job: Job) -> Evaluation:
    """One network fails, whichever process evaluates it."""
    if job.genotype == (0, 1):
        return Evaluation.failed(Reason.ERROR, "ValueError: made up")
    return with_process_id(job)


def with_gpu(job: Job) -> Evaluation:
    """Leaves a file named after the process and the GPU that it may see."""
    (job.weights_file.parents[1]).mkdir(parents=True, exist_ok=True)
    (job.weights_file.parents[1] / f"gpu-{os.getpid()}-{os.environ.get('CUDA_VISIBLE_DEVICES')}").touch()
    return slowly(job)
