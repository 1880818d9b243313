"""Early stopping that respects every objective: a training that can no longer reach the front is cut.

At a quarter, a half and three quarters of its epochs (rungs) a trial is judged by its optimistic end:

- its error is its smallest so far, minus the largest fall from that rung to the end that any trial has shown that was
  trained to its end;
- parameters and MACs are its own, known before training;
- whatever shows only at the end (introspectability) is as good as the best value that any complete trial has.

It is cut where even that point is dominated by a complete trial, is outside the constraints, or is no better than
chance. Its status is then INFEASIBLE: nothing went wrong, and it can be no parent.

**Why this does not cut on noise.** A fall is measured from a validation error as it stood at the rung to the error that
counted in the end, so that it contains the noise of both, and the largest of at least `MIN_TRAINED` such falls contains
it at its worst; the trial itself is judged by its best epoch, not its last. Were it as likely as any other to show the
largest fall, the chance that it would have come out better than its optimistic end is 1 in `MIN_TRAINED` + 1 at the
first cut, and falls with every trial; only then, and only if nothing else were in the way, would it have met the front.
What the rule can miss is a network that is worse in error than the most introspectable one and yet more introspectable
than any before: the price of not scoring trials on their way.

**Why it repeats.** What a trial is judged by is settled when its job is made, from exactly the answers that its
candidate was bred from (`Candidate.heard`), whatever else has finished meanwhile. So the same trials are cut at the
same epochs with any number of workers and after any interruption. Replicates are never cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from nasx.errors import TrialFailure
from nasx.trial import Bounds, Job, Objective, Reason, Rival, Rung, Trial, TrialStatus

MIN_TRAINED = 10  # trials trained to their end before any is cut
MIN_EPOCHS = 4  # shorter trainings have no rungs: a quarter of them is less than an epoch

WATCHED = {"error": "validation_error", "macro_error": "validation_macro_error"}  # metric -> its name in the history
KNOWN_BEFORE = ("parameters", "macs")  # metrics that need no training


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """After how many epochs a training is judged.

    >>> rung_epochs(12), rung_epochs(5), rung_epochs(3)
    ((3, 6, 9), (2, 3, 4), ())
    """
    return tuple(math.ceil(epochs * quarter / 4) for quarter in (1, 2, 3)) if epochs >= MIN_EPOCHS else ()


class Prospects:
    """What a new trial may still reach and whom it has to get past, by the trials heard so far."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        names = [objective.name for objective in objectives]
        self._judged = [name for name in names if name in WATCHED or name in KNOWN_BEFORE]
        self._unseen = [o for o in objectives if o.name not in self._judged]  # known at the end alone
        self._can_dominate = any(name in WATCHED for name in names)
        self._falls: dict[int, dict[str, float]] = {}  # epoch of a rung -> metric -> the largest fall from there
        self._trained: set[str] = set()  # networks trained to their end
        self._complete: dict[str, Trial] = {}

    def hear(self, trial: Trial) -> None:
        """Take in a trial; one that is known, that failed, or that was not trained changes nothing."""
        history = trial.evaluation.history
        if trial.arch_id in self._trained or trial.status is TrialStatus.FAILED or not history:
            return
        if "error" not in trial.metrics:  # cut itself
            return
        self._trained.add(trial.arch_id)
        for epoch in rung_epochs(len(history)):
            falls = self._falls.setdefault(epoch, {})
            for metric, name in WATCHED.items():
                falls[metric] = max(falls.get(metric, 0.0), history[epoch - 1][name] - trial.metrics[metric])
        if trial.is_complete:
            self._complete[trial.arch_id] = trial

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Where a training is judged; empty before `MIN_TRAINED` trials have been heard, and for short trainings."""
        if len(self._trained) < MIN_TRAINED:
            return ()
        return tuple(Rung(epoch, dict(falls)) for epoch, falls in sorted(self._falls.items()))

    @property
    def rivals(self) -> tuple[Rival, ...]:
        """Complete trials that nobody beats in what shows only at the end, the smallest error first."""
        if not self._can_dominate or not self._complete:
            return ()
        trials = list(self._complete.values())
        best = {o.name: min(o.sign * t.metrics[o.name] for t in trials) for o in self._unseen}
        unbeaten = (t for t in trials if all(o.sign * t.metrics[o.name] <= best[o.name] for o in self._unseen))
        rivals = [Rival(t.arch_id, {name: t.metrics[name] for name in self._judged}) for t in unbeaten]
        rivals.sort(key=lambda rival: (*rival.metrics.values(), rival.arch_id))
        return tuple(
            rival
            for i, rival in enumerate(rivals)
            if not any(all(r.metrics[n] <= rival.metrics[n] for n in self._judged) for r in rivals[:i])
        )


def judge(
    job: Job,
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, float],
    constraints: Mapping[str, Bounds],
    is_better_than_chance: Callable[[Mapping[str, float]], bool],
) -> None:
    """Raise TrialFailure, with a reason and a sentence, where a training need not go on after its last epoch so far.

    `history` has a record an epoch, `metrics` what is known of the network before training; `is_better_than_chance` is
    asked of the errors that can still be reached.
    """
    rung = next((rung for rung in job.rungs if rung.epoch == len(history)), None)
    if rung is None:
        return
    reach = {
        metric: max(0.0, min(record[WATCHED[metric]] for record in history) - fall)
        for metric, fall in rung.improvement.items()
    }
    ends = {**metrics, **reach}
    so_far = (
        f"stopped after epoch {rung.epoch}: the validation error was {history[-1]['validation_error']:.2%} and could "
        f"have fallen to {reach['error']:.2%} at best"
    )
    if not is_better_than_chance(reach):
        raise TrialFailure(Reason.CHANCE_LEVEL, f"{so_far}, which is not better than guessing the commonest class")
    for metric, bounds in constraints.items():
        if metric in reach and bounds.max is not None and reach[metric] > bounds.max:
            best = f"{metric} {reach[metric]:.6g} is outside [{bounds.min}, {bounds.max}]"
            raise TrialFailure(Reason.CONSTRAINT, f"{so_far}; {best}")
    for rival in job.rivals:
        is_beaten = all(value <= ends[metric] for metric, value in rival.metrics.items())
        if is_beaten and any(rival.metrics[metric] < ends[metric] for metric in WATCHED if metric in rival.metrics):
            there = ", ".join(_value(metric, value) for metric, value in rival.metrics.items())
            raise TrialFailure(Reason.DOMINATED, f"{so_far}: dominated by {rival.arch_id} with {there}")


def _value(metric: str, value: float) -> str:
    return f"{metric} {value:.2%}" if metric in WATCHED else f"{value:,.0f} {metric}"
