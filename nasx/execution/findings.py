"""What a search has found: its trials, counted, and its front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nasx import pareto
from nasx.execution.limits import Budget
from nasx.rundir import prune_weights, weights_file
from nasx.trial import Objective, Reason, Trial, TrialStatus, cost_matrix


class Findings:
    """Every trial of a run in the order in which they were recorded; the weights of those off the front are dropped."""

    def __init__(self, run_dir: Path, objectives: Sequence[Objective], budget: Budget, recorded: list[Trial]) -> None:
        self.run_dir = run_dir
        self.objectives = tuple(objectives)
        self.budget = budget
        self.trials: dict[str, Trial] = {}  # first trainings, by arch_id
        self.replicates: dict[tuple[str, int], Trial] = {}  # further ones, by arch_id and replicate
        self.front: list[Trial] = []
        self.ended: Counter[TrialStatus | Reason | None] = Counter()  # first trainings, by status and by reason
        for trial in recorded:
            self.add(trial)
        prune_weights(run_dir, {(t.arch_id, t.replicate) for t in self.front} | self.replicates.keys())

    @property
    def all_trials(self) -> list[Trial]:
        """First trainings, then replicates."""
        return [*self.trials.values(), *self.replicates.values()]

    def add(self, trial: Trial) -> None:
        """Take in a trial that the journal has."""
        self.budget.gpu_seconds += trial.gpu_seconds
        if trial.replicate > 0:
            self.replicates[trial.arch_id, trial.replicate] = trial
            return
        self.trials[trial.arch_id] = trial
        self.ended.update([trial.status, trial.evaluation.reason])
        changed = trial.is_complete and self._update_front(trial)
        if trial.evaluation.reason is not Reason.DISCONNECTED:
            self.budget.count(trial, self.front if changed else None)

    def _update_front(self, trial: Trial) -> bool:
        """Let the trial into the front, or not, and drop the weights of whatever is off it."""
        rivals = [*self.front, trial]
        mask = pareto.front_mask(cost_matrix(rivals, self.objectives))
        self.front = [t for t, stays in zip(rivals, mask, strict=True) if stays]
        for rival in (t for t, stays in zip(rivals, mask, strict=True) if not stays):
            weights_file(self.run_dir, rival.arch_id, rival.replicate).unlink(missing_ok=True)
        return bool(mask[-1])
