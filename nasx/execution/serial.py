"""Execution in this process, one trial after the other: for short trainings, for tables and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from nasx.config.settings import checked
from nasx.execution.interrupt import raising
from nasx.execution.loop import SearchLoop
from nasx.execution.workers import Device, WorkerPlan, plan_workers
from nasx.trial import Evaluator


class SerialExecution:
    """Evaluates one job at a time. Has the same results as `RayExecution` on the same machine."""

    in_process = True

    @checked
    def __init__(self, *, device: Device = "auto") -> None:
        """`device`: of the trials; auto: a GPU if there is one."""
        # an algorithm's lag depends on the number of workers: with that of `RayExecution` the results are the same
        plan = plan_workers(device)
        self._plan = replace(plan, gpus=1.0 if plan.gpus else 0.0)  # no other trial shares the GPU

    @property
    def plan(self) -> WorkerPlan:
        """Device of the trials, and the number of workers that `RayExecution` would have."""
        return self._plan

    def started(self, imports: Sequence[str] = ()) -> AbstractContextManager[None]:
        """Return an empty context: there are no workers to start."""
        return nullcontext()

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished.

        Args:
            loop: provides the jobs.
            evaluate: evaluates a job in this process.
            watch: called before and after each trial.
        """
        while (job := loop.next_job()) is not None:
            loop.begin(job)
            watch()
            with raising():
                evaluation = evaluate(job)
            loop.complete(job, evaluation)
            watch()
