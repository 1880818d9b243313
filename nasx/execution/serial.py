"""The search loop in this process, one trial after the other: for tiny tasks, for tables and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal

from nasx.execution.loop import SearchLoop
from nasx.execution.workers import WorkerPlan, plan_workers
from nasx.trial import Evaluator


class SerialExecution:
    """Evaluates every job here. Gives the results that `RayExecution` gives on the same machine."""

    in_process = True

    def __init__(self, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
        # the lag of an algorithm follows the workers: those that `RayExecution` would have here give the same results
        plan = plan_workers(device)
        self._plan = replace(plan, gpus=1.0 if plan.gpus else 0.0)  # no other trial shares the GPU

    @property
    def plan(self) -> WorkerPlan:
        """The device of the trials, and the workers that `RayExecution` would have."""
        return self._plan

    def started(self, imports: Sequence[str] = ()) -> AbstractContextManager[None]:
        """There is nothing to start."""
        return nullcontext()

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        while (job := loop.next_job()) is not None:
            loop.begin(job)
            watch()
            loop.complete(job, evaluate(job))
            watch()
