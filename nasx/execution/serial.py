"""The search loop in this process, one trial after the other: for tiny tasks and for debugging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from nasx.data.images import SearchData
from nasx.evaluation import EvaluationSpec, evaluate
from nasx.execution.loop import SearchLoop
from nasx.execution.workers import plan_workers


class SerialExecution:
    """Evaluates every job here. Gives the results that `RayExecution` gives on the same machine."""

    def __init__(self, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
        self.device = device

    @property
    def planned_workers(self) -> int:
        """The workers that a parallel search would have here: an algorithm's lag, and so its result, follows them."""
        return plan_workers(self.device).workers

    def run(self, loop: SearchLoop, spec: EvaluationSpec, data: SearchData, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished. `watch` is called whenever something has changed."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as a worker has: sums in another order would give other results
        try:
            while (job := loop.next_job()) is not None:
                watch()
                try:
                    evaluation = evaluate(job, spec, data)
                except BaseException:
                    loop.abandon(job)
                    raise
                loop.complete(job, evaluation)
                watch()
        finally:
            torch.set_num_threads(threads)
