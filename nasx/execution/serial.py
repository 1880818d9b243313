"""The search loop in this process, one trial after the other: for tiny tasks, for tables and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from nasx.execution.loop import SearchLoop
from nasx.execution.workers import plan_workers
from nasx.trial import Evaluator


class SerialExecution:
    """Evaluates every job here. Gives the results that `RayExecution` gives on the same machine."""

    in_process = True
    threads = 1  # as a worker of Ray's has

    def __init__(self, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
        self.device = device

    @property
    def gpus(self) -> float:
        """A whole one: nobody else is there."""
        return 1.0 if plan_workers(self.device).gpus else 0.0

    @property
    def planned_workers(self) -> int:
        """The workers that a parallel search would have here, so that both give the same results."""
        return plan_workers(self.device).workers

    def started(self, imports: Sequence[str] = ()) -> AbstractContextManager[None]:
        """There is nothing to start."""
        return nullcontext()

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        while (job := loop.next_job()) is not None:
            loop.begin(job)
            watch()
            loop.complete(job, evaluate(job))
            watch()
