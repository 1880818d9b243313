"""The recorded ask/tell sequence: its order while it is replayed, and the order of new results after it."""

from __future__ import annotations

import pytest

from nasx.errors import RunError
from nasx.execution.replay import Replay
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Reason, Trial, TrialStatus

ERROR = [OBJECTIVES["error"]]


def trial(number: int, replicate: int = 0, *, failed: bool = False) -> Trial:
    evaluation = (
        Evaluation.failed(Reason.DIVERGED, "")
        if failed
        else Evaluation(TrialStatus.COMPLETE, metrics={"error": number / 10})
    )
    return Trial(f"network{number}", replicate, (number,), "", 0, evaluation, Candidate(number, (number,), 0, "random"))


def finished(*trials: Trial) -> dict[tuple[str, int], Trial]:
    return {(t.arch_id, t.replicate): t for t in trials}


class Recorder:
    """Algorithm that writes down the conversation."""

    def __init__(self, *, waits_for: int = 0) -> None:
        self.log: list[object] = []
        self.asked = 0
        self.waits_for = waits_for  # results without which it has no candidate

    def ask(self) -> Candidate | None:
        if sum(isinstance(entry, tuple) for entry in self.log) < self.waits_for:
            self.log.append("waits")
            return None
        self.log.append("ask")
        self.asked += 1
        return Candidate(self.asked - 1, (self.asked - 1,), 0, "random")

    def tell(self, number: int, costs: tuple[float, ...] | None) -> None:
        self.log.append((number, costs))


class Replayer(Recorder):
    """Algorithm that is shown its former candidates."""

    def replay(self, candidate: Candidate) -> None:
        if candidate.number == 9:
            raise ValueError("candidate 9 is unknown")
        self.log.append(f"replay {candidate.number}")


def test_results_reach_the_algorithm_in_the_order_in_which_they_were_recorded():
    trials = finished(trial(2), trial(0), trial(1))
    algorithm = Recorder()
    replay = Replay(algorithm, ERROR, [Candidate(n, (n,), 0, "random") for n in range(3)], trials)
    for number in range(3):
        replay.ask()
        replay.tell(number, trials[f"network{number}", 0])

    replay.ask()

    assert algorithm.log == ["ask", "ask", "ask", (2, (0.2,)), (0, (0.0,)), (1, (0.1,)), "ask"]


def test_a_recorded_candidate_comes_after_the_results_that_it_depends_on():
    trials = finished(trial(0), trial(1))
    recorded = [Candidate(0, (0,), 0, ""), Candidate(1, (1,), 0, ""), Candidate(2, (2,), 0, "", heard=(1,))]
    algorithm = Replayer()
    replay = Replay(algorithm, ERROR, recorded, trials)
    for number in range(2):
        assert replay.ask() == recorded[number]
        replay.tell(number, trials[f"network{number}", 0])

    assert not replay.is_over
    assert replay.ask() == recorded[2]
    assert replay.is_over
    assert algorithm.log == ["replay 0", "replay 1", (1, (0.1,)), "replay 2"]


def test_after_the_replay_a_result_is_passed_on_at_once():
    algorithm = Recorder()
    replay = Replay(algorithm, ERROR, [], {})
    replay.ask()

    replay.tell(0, trial(0, failed=True))

    assert algorithm.log == ["ask", (0, None)]  # a failed trial has no costs


def test_an_algorithm_without_a_record_of_its_dependencies_receives_all_results_when_it_waits():
    trials = finished(trial(0))
    algorithm = Recorder()
    replay = Replay(algorithm, ERROR, [Candidate(0, (0,), 0, ""), Candidate(1, (1,), 0, "")], trials)
    replay.ask()
    replay.tell(0, trials["network0", 0])
    algorithm.waits_for = 1

    assert replay.ask() is not None

    assert algorithm.log == ["ask", "waits", (0, (0.0,)), "ask"]


def test_a_candidate_that_the_algorithm_refuses_is_damage():
    replay = Replay(Replayer(), ERROR, [Candidate(9, (9,), 0, "")], {})

    with pytest.raises(RunError, match=r"^the journal is damaged: candidate 9 is unknown\. `nasx runs check` lists"):
        replay.ask()
