"""Early stopping that respects every objective: a training that can no longer reach the front is cut.

At a quarter, a half and three quarters of its epochs (rungs) a trial is judged by its optimistic end:

- its error is its smallest so far, minus the largest fall from that rung to the end that any trial has shown that was
  trained to its end;
- parameters and MACs are its own, known before training;
- whatever shows only at the end (introspectability) is as good as the best value that any complete trial has.

It is cut where even that point is outside the constraints, or no better than chance, or dominated by a complete trial
that dominates at least `MIN_TRAINED` others already. Its status is then INFEASIBLE: nothing went wrong, and it can be
no parent.

**Why this does not cut on noise.** A fall is measured from a validation error as it stood at the rung to the error that
counted in the end, so that it contains the noise of both, and the largest of at least `MIN_TRAINED` such falls contains
it at its worst; the trial itself is judged by its best epoch, not its last. Were it as likely as any other to show the
largest fall, the chance that it would end better than its optimistic end is 1 in `MIN_TRAINED` + 1 at the first cut,
and less with every trial; only then, and only if nothing else were in the way, would it have met the front.

**Why a rival must have proved itself.** Errors and introspectability pull apart: a network that is worse in error than
the most introspectable one so far may well be the next most introspectable. In one of two searches on the digits that
were judged in hindsight, cutting against any such rival would have lost the end of the front for 4 % of the epochs. So
a rival counts once `MIN_TRAINED` networks that it beats in error were trained to their end and none of them became more
introspectable: the same argument as above. Then nothing was lost, and nothing cut in so short a search either. Where no
objective is left to the end, as with error alone or against parameters, 5 to 12 % of the epochs were saved.

**Why it repeats.** What a trial is judged by is settled when its job is made, from exactly the answers that its
candidate was bred from (`Candidate.heard`), whatever else has finished meanwhile. So the same trials are cut at the
same epochs with any number of workers and after any interruption.

**Only first trainings are cut.** A network whose bad re-trainings were missing would be known by its lucky ones. On a
made-up problem with noise (128 trainings, 10 seeds) the true errors of the front were .021 above the estimates if
re-trainings were cut, and .013 if not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

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
        self._best: dict[str, float] = {}  # cost of what shows at the end alone: the smallest
        self._complete: list[Mapping[str, float]] = []  # what shows before, of complete trials
        self._unbeaten: list[Rival] = []  # those with the smallest costs at the end, and nobody before them

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
            self._add(Rival(trial.arch_id, {n: trial.metrics[n] for n in self._judged}), trial)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Where a training is judged; empty before `MIN_TRAINED` trials have been heard, and for short trainings."""
        if len(self._trained) < MIN_TRAINED:
            return ()
        return tuple(Rung(epoch, dict(falls)) for epoch, falls in sorted(self._falls.items()))

    @property
    def rivals(self) -> tuple[Rival, ...]:
        """Complete trials that are the best of all in what shows only at the end, and dominate `MIN_TRAINED` others."""
        if not self._can_dominate:
            return ()
        proved = (r for r in self._unbeaten if _beats_at_least(MIN_TRAINED, r.metrics, self._complete))
        return tuple(sorted(proved, key=lambda rival: (*rival.metrics.values(), rival.arch_id)))

    def _add(self, rival: Rival, trial: Trial) -> None:
        self._complete.append(rival.metrics)
        costs = {o.name: o.sign * trial.metrics[o.name] for o in self._unseen}
        best = {name: min(cost, self._best.get(name, cost)) for name, cost in costs.items()}
        if best != self._best:
            self._unbeaten.clear()  # each of them had what is no longer the best
            self._best = best
        if costs == best and not any(_dominates(r.metrics, rival.metrics) for r in self._unbeaten):
            self._unbeaten = [r for r in self._unbeaten if not _dominates(rival.metrics, r.metrics)] + [rival]


def _beats_at_least(n: int, metrics: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> bool:
    beaten = (other for other in others if _dominates(metrics, other))
    return sum(1 for _ in islice(beaten, n)) == n


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
        if _dominates(rival.metrics, ends):
            there = ", ".join(_value(metric, value) for metric, value in rival.metrics.items())
            raise TrialFailure(Reason.DOMINATED, f"{so_far}: dominated by {rival.arch_id} with {there}")


def _dominates(metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether `metrics`, all to be minimised, are nowhere larger than others' and smaller in an error."""
    return all(value <= others[name] for name, value in metrics.items()) and any(
        value < others[name] for name, value in metrics.items() if name in WATCHED
    )


def _value(metric: str, value: float) -> str:
    return f"{metric} {value:.2%}" if metric in WATCHED else f"{value:,.0f} {metric}"
