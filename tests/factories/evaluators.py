"""Evaluators that workers can import: some return results, some fail, hang or kill their worker."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from nasx.errors import DeviceError, ResourceError
from nasx.evaluation import watchdog
from nasx.trial import Evaluation, Job, Reason
from tests.factories.searches import measured, trained

KILLERS = ((0, 1), (0, 2))  # on the front: every search here evaluates them


def first_time(job: Job) -> bool:
    """Return whether this job is evaluated for the first time."""
    mark = job.weights_file.parent / "seen"
    mark.parent.mkdir(parents=True, exist_ok=True)
    if mark.exists():
        return False
    mark.touch()
    return True


def with_process_id(job: Job) -> Evaluation:
    """Write a file named after the process."""
    time.sleep(0.02)
    evaluation = measured(job)
    (job.weights_file.parents[1] / f"pid-{os.getpid()}").touch()
    return evaluation


def with_environment(job: Job) -> Evaluation:
    """Write a file if this process has the environment of workers that Tune starts itself."""
    if "PL_DISABLE_FORK" in os.environ:
        (job.weights_file.parents[2] / "own-environment").touch()
    return measured(job)


def slowly(job: Job) -> Evaluation:
    """Evaluate as `with_process_id`, but long enough that two workers share the trials."""
    evaluation = with_process_id(job)
    time.sleep(0.7)
    return evaluation


def killed_once(job: Job) -> Evaluation:
    """Kill the worker in the first attempt at two networks."""
    if job.genotype in KILLERS and first_time(job):
        os.kill(os.getpid(), signal.SIGKILL)
    return measured(job)


def no_disk(job: Job) -> Evaluation:
    raise ResourceError("no space left on the disk while writing weights.")


def broken(job: Job) -> Evaluation:
    raise ZeroDivisionError("a bug")


def stuck_once(job: Job) -> Evaluation:
    """Stop the process in the first attempt at the first network, so that it receives no signal."""
    if job.genotype == (0, 0) and first_time(job):
        os.kill(os.getpid(), signal.SIGSTOP)
    return measured(job)


class FrozenWhileItStarts:
    """Evaluator that stops the first process that loads it, before a trial begins."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__dict__ |= state
        if "default_worker" in "".join(sys.argv) and not self.mark.exists():
            self.mark.parent.mkdir(parents=True, exist_ok=True)
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGSTOP)

    def __call__(self, job: Job) -> Evaluation:
        return measured(job)


def hangs(job: Job) -> Evaluation:
    """Hang outside Python at the first network, so that no alarm is handled."""
    watchdog.GRACE = 0.2
    job.weights_file.parent.mkdir(parents=True, exist_ok=True)
    with watchdog.watchdog(None, 0.2, watchdog.hang_file(job.weights_file)):
        if job.genotype == (0, 0):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            ctypes.PyDLL(None).sleep(60)  # holds the GIL
    return measured(job)


def out_of_order(job: Job) -> Evaluation:
    """Train for a time that depends on the network: parallel trials end in another order than they began."""
    time.sleep(0.04 * (sum(job.genotype) % 4))
    return trained(job)


def process_ids(run_dir: Path) -> set[int]:
    return {int(path.name.removeprefix("pid-")) for path in (run_dir / "archs").glob("pid-*")}


def in_one_process(job: Job) -> bool:
    """Return whether this process was the first to evaluate the second network."""
    mark = job.weights_file.parents[1] / "victim"
    if job.genotype == (0, 1) and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(str(os.getpid()))
    return mark.exists() and mark.read_text() == str(os.getpid())


def breaks_its_device(job: Job) -> Evaluation:
    """Fail in one process as if its GPU were broken; the other process is slower."""
    if in_one_process(job):
        raise DeviceError("CUDA error: an illegal memory access was encountered")
    return slowly(job)


def fails_in_one_process(job: Job) -> Evaluation:
    """Fail every trial of one process at once."""
    if in_one_process(job):
        return Evaluation.failed(Reason.ERROR, "RuntimeError: made up")
    return slowly(job)


def runs_out_of_memory_in_one_process(job: Job) -> Evaluation:
    """Run out of memory in one process, in any number of parts of a batch."""
    if in_one_process(job):
        return Evaluation.failed(Reason.OUT_OF_MEMORY, "made up: no memory left")
    return slowly(job)


def raises_for_one_network(job: Job) -> Evaluation:
    """Fail for one network in every process."""
    if job.genotype == (0, 1):
        return Evaluation.failed(Reason.ERROR, "ValueError: made up")
    return with_process_id(job)


def with_gpu(job: Job) -> Evaluation:
    """Write a file named after the process and its visible GPU."""
    (job.weights_file.parents[1]).mkdir(parents=True, exist_ok=True)
    (job.weights_file.parents[1] / f"gpu-{os.getpid()}-{os.environ.get('CUDA_VISIBLE_DEVICES')}").touch()
    return slowly(job)
