"""Runs the trials that an algorithm asks for: in process, on this machine's workers, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nasx.execution.loop import SearchLoop
    from nasx.execution.workers import WorkerPlan
    from nasx.trial import Evaluator


class Execution(Protocol):
    """Takes jobs from a loop, has them evaluated, and gives the answers back."""

    in_process: bool  # whether trials run in this very thread

    @property
    def plan(self) -> WorkerPlan:
        """Trials at a time, which an algorithm's lag and so its result follow, and the resources of each."""

    def started(self, imports: Sequence[str] = ()) -> AbstractContextManager[None]:
        """Workers for the time of the block. They start in the background, so that the caller may read the data.

        `imports`: modules that evaluations will need. `run` starts workers itself where there are none.
        """

    def run(self, loop: SearchLoop, evaluate: Evaluator, watch: Callable[[], None]) -> None:
        """Evaluate until the loop is finished.

        `watch` is called in this thread whenever something may have changed. Raises what `watch` and `evaluate` raise:
        what goes wrong with a network is an Evaluation, an exception is the machine's fault.
        """
