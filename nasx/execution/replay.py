"""Replay of the recorded candidates and results when a search resumes.

An algorithm may use all results so far, so that their order matters. It is in the journal: each candidate is recorded
with the results that the algorithm had received since the candidate before (`Candidate.heard`). When a search resumes,
a fresh algorithm receives the recorded candidates in order, each after exactly the results that it depends on. Results
that no candidate depends on yet follow at the end, in the order of recording. Afterwards the algorithm receives results
as they arrive.

An algorithm that can `replay` takes a recorded candidate as it is. It may therefore be of another version, or on a
machine that rounds differently. Other algorithms are asked again, and the journal compares the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nasx.errors import RunError
from nasx.execution.jobs import Key
from nasx.protocols import Replayable, SearchAlgorithm
from nasx.trial import Candidate, Objective, Trial, costs


class Replay:
    """Passes recorded candidates and results to the algorithm in their former order, then new ones as they arrive."""

    def __init__(
        self,
        algorithm: SearchAlgorithm,
        objectives: Sequence[Objective],
        recorded: Iterable[Candidate],
        finished: Mapping[Key, Trial],
    ) -> None:
        """Start before the first recorded candidate.

        Args:
            algorithm: a fresh one.
            objectives: define the costs that the algorithm receives.
            recorded: candidates of the journal, in the order of their numbers.
            finished: all recorded trials, in the order of recording; it may grow.
        """
        self.algorithm = algorithm
        self.objectives = tuple(objectives)
        self.finished = finished
        self._recorded = list(recorded)
        self._asked = 0  # number of candidates so far
        self._results: dict[int, Trial] = {}  # not passed to the algorithm yet, by number of the candidate

    @property
    def is_over(self) -> bool:
        """Return whether every recorded candidate has been requested again."""
        return self._asked >= len(self._recorded)

    def ask(self) -> Candidate | None:
        """Return the next candidate; None while the algorithm waits for results."""
        candidate = self._ask_new() if self.is_over else self._ask_recorded(self._recorded[self._asked])
        if candidate is not None:
            self._asked += 1
        return candidate

    def tell(self, number: int, trial: Trial) -> None:
        """Pass the trial of candidate `number` to the algorithm, now or when the replay comes to it."""
        self._results[number] = trial
        if self.is_over:
            self._tell_all()

    def _ask_new(self) -> Candidate | None:
        self._tell_all()
        return self.algorithm.ask()

    def _ask_recorded(self, recorded: Candidate) -> Candidate | None:
        self._tell(number for number in recorded.heard if number in self._results)
        if isinstance(self.algorithm, Replayable):
            try:
                self.algorithm.replay(recorded)
            except ValueError as error:
                raise RunError(f"the journal is damaged: {error}. `nasx runs check` lists all problems.") from error
            return recorded
        candidate = self.algorithm.ask()
        if candidate is None and self._results:  # its candidates do not record results that they depend on
            self._tell_all()
            candidate = self.algorithm.ask()
        return candidate

    def _tell_all(self) -> None:
        if len(self._results) > 1:
            position = {key: index for index, key in enumerate(self.finished)}

            def order(number: int) -> tuple[int, int]:
                trial = self._results[number]
                return position[trial.arch_id, trial.replicate], number

            self._tell(sorted(self._results, key=order))
        else:
            self._tell(list(self._results))

    def _tell(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            trial = self._results.pop(number)
            self.algorithm.tell(number, costs(trial.metrics, self.objectives) if trial.is_complete else None)
