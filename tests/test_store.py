"""The journal: what goes in comes out, and nothing that was acknowledged is ever lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasx.errors import RunError
from nasx.store import RunInfo, RunStore
from nasx.trial import Candidate, Evaluation, Score, Trial, TrialStatus

INFO = RunInfo(
    name="digits",
    created="2026-01-02T03:04:05+00:00",
    nasx_version="0.1.0",
    torch_version="2.13.0",
    python_version="3.11.7",
    seed=7,
    objectives=("error", "introspectability"),
    n_classes=3,
    class_names=("a", "b", "c"),
    config_hash="abc",
    workers=2,
)


def make_trial(number: int = 0, arch_id: str = "a000000000", replicate: int = 0) -> Trial:
    distances = np.array([[0, 0.1, np.nan], [0.1, 0, 1 / 3], [np.nan, 1 / 3, 0]])
    score = Score("shap", 0.1 + 0.2, {"stem": 1 / 3, "stage1": 2 / 3}, distances, 100, 0.5, 1e-17)
    return Trial(
        arch_id=arch_id,
        replicate=replicate,
        genotype=(0, 1),
        architecture="|a|b|",
        seed=5,
        evaluation=Evaluation(
            TrialStatus.COMPLETE,
            metrics={"error": 1 / 3, "introspectability": 0.1 + 0.2, "parameters": 802426},
            scores=(score,),
            history=({"epoch": 1, "train_loss": float("inf"), "validation_loss": 0.5},),
            train_seconds=1.5,
            score_seconds=0.25,
        ),
        candidate=Candidate(number, (1, 0), 0, "random"),
        finished="2026-01-02T03:05:00+00:00",
    )


def record(store: RunStore, trial: Trial) -> None:
    store.record_candidate(trial.candidate, trial.arch_id, answered=False)
    store.record_trial(trial)


def assert_same(a: Trial, b: Trial) -> None:
    """Dataclasses compare arrays badly, hence eq=False there: compare what they hold."""
    for left, right in zip(a.evaluation.scores, b.evaluation.scores, strict=True):
        np.testing.assert_array_equal(left.distances, right.distances)
    assert flat(a) == flat(b)


def flat(trial: Trial) -> str:
    evaluation = dict(vars(trial.evaluation))
    scores = [{k: v for k, v in vars(s).items() if k != "distances"} for s in evaluation.pop("scores")]
    return repr([{k: v for k, v in vars(trial).items() if k != "evaluation"}, evaluation, scores])


def test_a_trial_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    trial = make_trial()
    with RunStore.create(tmp_path, INFO) as store:
        record(store, trial)
    with RunStore.open(tmp_path) as store:
        assert store.info == INFO
        assert_same(store.trials()[0], trial)
        found = store.trial(trial.arch_id)
        assert found is not None
        assert_same(found, trial)
        assert store.trial("unknown") is None


def test_a_candidate_recorded_again_must_be_the_same(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, INFO) as store:
        store.record_candidate(Candidate(0, (1, 0), 0, "random"), "a", answered=False)
        store.record_candidate(Candidate(0, (1, 0), 0, "random"), "a", answered=True)
        assert [c.answered for c in store.candidates()] == [False]
        with pytest.raises(RunError, match=r"belongs to another config or version: its candidate 0 is \[1,0\]"):
            store.record_candidate(Candidate(0, (1, 1), 0, "random"), "b", answered=False)


def test_attempts_are_counted_until_withdrawn(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, INFO) as store:
        store.record_attempt("a")
        store.record_attempt("a")
        store.record_attempt("b", 1)
        store.withdraw_attempt("a")
        store.record_event("search", "resumed")
        assert (store.attempts("a"), store.attempts("b"), store.attempts("b", 1)) == (1, 0, 1)
        assert [e.kind for e in store.events()] == ["attempt", "attempt", "attempt", "withdrawal", "search"]
