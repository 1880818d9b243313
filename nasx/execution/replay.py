"""Replays the recorded ask/tell sequence when a search resumes, then asks and tells the algorithm.

An algorithm may breed from whatever has been answered, so that the order matters. The journal has it: every candidate
is recorded with the answers that had been taken in since the one before (`Candidate.heard`). When a search resumes, a
fresh algorithm is given the recorded candidates one after the other, each after the answers that it was bred from and
no others. Answers that nobody had taken in yet are told at the end, in the order in which they were recorded. From
there on answers are told as they come.

An algorithm that can `replay` takes a recorded candidate as it is: what it would ask today, by another version or on a
machine that rounds differently, does not matter. One that cannot is asked again, and the journal checks its answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nasx.errors import RunError
from nasx.execution.jobs import Key
from nasx.protocols import Replayable, SearchAlgorithm
from nasx.trial import Candidate, Objective, Trial, costs


class Replay:
    """Replays recorded candidates and answers, then passes new ones on; see above.

    Args:
        algorithm: a fresh one.
        objectives: define the costs that the algorithm receives.
        recorded: the candidates that the journal holds, in the order of asking.
        finished: all trials that are known, in the order in which they were recorded; it may grow.
    """

    def __init__(
        self,
        algorithm: SearchAlgorithm,
        objectives: Sequence[Objective],
        recorded: Iterable[Candidate],
        finished: Mapping[Key, Trial],
    ) -> None:
        self.algorithm = algorithm
        self.objectives = tuple(objectives)
        self.finished = finished
        self._recorded = list(recorded)
        self._asked = 0
        self._answers: dict[int, Trial] = {}  # not passed to the algorithm yet, by number of the candidate

    @property
    def is_over(self) -> bool:
        """Whether every recorded candidate has been asked again."""
        return self._asked >= len(self._recorded)

    def ask(self) -> Candidate | None:
        """The next candidate; None while the algorithm waits for an answer."""
        candidate = self._next() if self.is_over else self._again(self._recorded[self._asked])
        if candidate is not None:
            self._asked += 1
        return candidate

    def tell(self, number: int, trial: Trial) -> None:
        """A trial is the answer to candidate `number`."""
        self._answers[number] = trial
        if self.is_over:
            self._tell_all()

    def _next(self) -> Candidate | None:
        self._tell_all()
        return self.algorithm.ask()

    def _again(self, recorded: Candidate) -> Candidate | None:
        self._tell(number for number in recorded.heard if number in self._answers)
        if isinstance(self.algorithm, Replayable):
            try:
                self.algorithm.replay(recorded)
            except ValueError as error:
                raise RunError(f"the journal is damaged: {error}. `nasx runs check` says more.") from error
            return recorded
        candidate = self.algorithm.ask()
        if candidate is None and self._answers:  # it does not report what it was bred from: the order cannot matter
            self._tell_all()
            candidate = self.algorithm.ask()
        return candidate

    def _tell_all(self) -> None:
        if len(self._answers) > 1:
            order = {key: place for place, key in enumerate(self.finished)}

            def place(number: int) -> tuple[int, int]:
                trial = self._answers[number]
                return order[trial.arch_id, trial.replicate], number

            self._tell(sorted(self._answers, key=place))
        else:
            self._tell(list(self._answers))

    def _tell(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            trial = self._answers.pop(number)
            self.algorithm.tell(number, costs(trial.metrics, self.objectives) if trial.is_complete else None)
