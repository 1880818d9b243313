"""Pareto fronts published in the paper, for comparison with a run.

The paper scores introspectability by activations, nasx by SHAP unless configured otherwise. Fronts are compared only
by the paper's scorer, which a run records in addition to its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.errors import NasxError
from nasx.reports.summary import FrontSummary
from nasx.trial import Trial

SCORERS: Final = {  # `Dataset.name` -> scorer that the paper used
    "mnist": "activations",
    "cifar10": "activations",
    "imagenet16_120": "activations_weighted",
}
OBJECTIVE_NAMES: Final = ("error", "introspectability")


@dataclass(frozen=True, eq=False)
class PaperFront:
    """Front found by the paper's search on one dataset."""

    dataset: str
    scorer: str  # scorer that the paper used
    error: NDArray[np.float64]  # (n,) validation error in [0, 1], ascending
    introspectability: NDArray[np.float64]  # (n,)
    source: str  # citation

    def hypervolume(self, n_classes: int) -> float:
        """Return the hypervolume, with guessing and introspectability 0 as the reference point."""
        return pareto.hypervolume(np.column_stack([self.error, -self.introspectability]), [1 - 1 / n_classes, 0])


def paper_front(dataset: str) -> PaperFront:
    """Return the paper's front on `dataset`. Raises NasxError if the paper has none."""
    content: dict[str, Any] = json.loads((files("nasx.reports") / "data" / "paper_fronts.json").read_text("utf-8"))
    fronts = content["fronts"]
    if dataset not in fronts:
        raise NasxError(f"the paper has no front for the dataset {dataset!r}; it has: {', '.join(sorted(fronts))}.")
    introspectability, accuracy = np.array(fronts[dataset]).T
    return PaperFront(dataset, SCORERS[dataset], 1 - accuracy, introspectability, content["source"])


def with_paper_score(trials: Sequence[Trial], front: PaperFront) -> list[Trial]:
    """Return the trials with the score by the paper's scorer as their introspectability.

    Complete trials without that score are left out, others are unchanged. Raises NasxError if no complete trial has it.
    """
    measured = [_measured(t, front.scorer) if t.is_complete else t for t in trials]
    kept = [t for t in measured if t is not None]
    if not any(t.is_complete for t in kept):
        recorded = sorted({s.scorer for t in trials for s in t.evaluation.scores})
        raise NasxError(
            f"the paper scores {front.dataset} by {front.scorer!r}, which this run has not recorded "
            f"(it has: {', '.join(recorded) or 'no score'}): the two fronts cannot be compared."
        )
    return kept


def comparison_sentence(summary: FrontSummary, front: PaperFront, *, n_classes: int) -> str:
    """Return both hypervolumes and their ratio in one sentence.

    Args:
        summary: of a run, by the paper's scorer.
        front: of the paper, on the same dataset.
        n_classes: determines the reference point of the paper's hypervolume.
    """
    ours, theirs = summary.hypervolume, front.hypervolume(n_classes)
    sentence = (
        f"the paper's front on {front.dataset}: hypervolume {theirs:.4f}; this run's front, "
        f"scored by {front.scorer} as well: {ours:.4f} ({ours / theirs:.0%} of it)"
    )
    # observed values are optimistic: the best of many noisy values is partly luck
    return (
        f"{sentence}; the paper's values are observed, this run's are estimates" if summary.is_estimated else sentence
    )


def _measured(trial: Trial, scorer: str) -> Trial | None:
    score = trial.evaluation.score(scorer)
    if score is None:
        return None
    metrics = {**trial.metrics, "introspectability": score.value}
    return replace(trial, evaluation=replace(trial.evaluation, metrics=metrics))
