"""The talk with the algorithm: questions and answers in the order in which they were first exchanged.

An algorithm may breed from whatever has been answered, so that the order matters. The journal keeps it: every candidate
is recorded with the answers that had been taken in since the one before (`Candidate.heard`). A resumed search asks a
fresh algorithm the same questions and tells it, before each, what it had heard then and nothing else, though the
journal knows more. What nobody had heard yet is told at the end, in the order in which it was recorded. From there on
answers are told as they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nasx.protocols import SearchAlgorithm
from nasx.trial import Candidate, Objective, Trial, costs


class Dialogue:
    """Asks and tells an algorithm; see above.

    Args:
        recorded: the candidates that the journal holds, in the order of asking.
        finished: the trials that are known, by arch_id, in the order in which they were recorded; it may grow.
    """

    def __init__(
        self,
        algorithm: SearchAlgorithm,
        objectives: Sequence[Objective],
        recorded: Iterable[Candidate],
        finished: Mapping[str, Trial],
    ) -> None:
        self.algorithm = algorithm
        self.objectives = tuple(objectives)
        self.finished = finished
        self._heard = [candidate.heard for candidate in recorded]
        self._asked = 0
        self._answers: dict[int, Trial] = {}  # not told yet, by number of the candidate

    @property
    def is_replayed(self) -> bool:
        """Whether every recorded question has been asked again."""
        return self._asked >= len(self._heard)

    def ask(self) -> Candidate | None:
        """The next candidate; None while the algorithm waits for an answer."""
        if self.is_replayed:
            self._tell_all()
        else:
            self._tell(number for number in self._heard[self._asked] if number in self._answers)
        candidate = self.algorithm.ask()
        if candidate is None and self._answers:  # it does not tell what it has heard, so the order cannot matter to it
            self._tell_all()
            candidate = self.algorithm.ask()
        if candidate is not None:
            self._asked += 1
        return candidate

    def tell(self, number: int, trial: Trial) -> None:
        """A trial is the answer to candidate `number`."""
        self._answers[number] = trial
        if self.is_replayed:
            self._tell_all()

    def _tell_all(self) -> None:
        if len(self._answers) > 1:
            order = {arch_id: place for place, arch_id in enumerate(self.finished)}
            self._tell(sorted(self._answers, key=lambda number: (order[self._answers[number].arch_id], number)))
        else:
            self._tell(list(self._answers))

    def _tell(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            trial = self._answers.pop(number)
            self.algorithm.tell(number, costs(trial.metrics, self.objectives) if trial.is_complete else None)
