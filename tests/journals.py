"""A run and trials by hand, for tests that need a journal. Light: killed writers import it too."""

from __future__ import annotations

import math

import numpy as np

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
    class_names=("a", "b", "ç"),
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
            history=({"epoch": 1, "train_loss": math.inf, "validation_loss": 0.5},),
            train_seconds=1.5,
            score_seconds=0.25,
        ),
        candidate=Candidate(number, (1, 0), 0, "random"),
        finished="2026-01-02T03:05:00+00:00",
    )


def record(store: RunStore, *trials: Trial) -> None:
    for trial in trials:
        store.record_candidate(trial.candidate, trial.arch_id, answered=False)
        store.record_trial(trial)
