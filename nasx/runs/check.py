"""Whether a run directory is whole: its journal, its lineage, its trials and its weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasx.errors import RunError
from nasx.files import damage
from nasx.runs.directory import DATABASE, kept_weights
from nasx.runs.journal import Journal
from nasx.runs.rows import Lineage, RunInfo
from nasx.trial import INFEASIBLE_REASONS, OBJECTIVES, Trial, TrialStatus


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a run."""

    where: str  # "run.db", "candidate 5", "trial 3fa0c11d22", or a file within the run directory
    what: str  # a sentence without its end


def check_run(run_dir: Path) -> list[Problem]:
    """Everything that is wrong with a run; empty where it is whole. Reads all files, changes none.

    A candidate without a trial is no problem: its search was stopped before the trial ended.
    Raises RunError where there is nothing to check: no run directory, a newer nasx's, a journal that does not open.
    """
    with Journal.open(run_dir, read_only=True) as store:
        found = [Problem(DATABASE, what) for what in store.problems()]
        try:
            lineage, trials = store.candidates(), store.trials()
        except (RunError, ValueError, KeyError) as exc:  # the file is a database, but its rows cannot be read
            return [*found, Problem(DATABASE, f"its records cannot be read ({exc})")]
    found += lineage_problems(lineage)
    found += trial_problems(trials, lineage, store.info)
    found += (
        Problem(path.relative_to(run_dir).as_posix(), what)
        for path in kept_weights(run_dir).values()
        if (what := damage(path)) is not None
    )
    return found


def lineage_problems(lineage: Sequence[Lineage]) -> Iterator[Problem]:
    """Check the candidates.

    They are numbered 0, 1, 2, ... and descend from earlier ones. They are answered by earlier ones only, and ask for
    the trainings of a network in order.
    """
    asked: Counter[str] = Counter()  # trainings of each network
    for place, entry in enumerate(lineage):
        where = f"candidate {entry.candidate.number}"
        if entry.candidate.number != place:
            yield Problem(where, f"candidate {place} is missing before it")
            return
        late = [parent for parent in entry.candidate.parents if not 0 <= parent < place]
        if late:
            yield Problem(where, f"descends from candidate {late[0]}, which does not come before it")
        late = [number for number in entry.candidate.heard if not 0 <= number < place]
        if late:
            yield Problem(where, f"was bred from the answer to candidate {late[0]}, which does not come before it")
        if entry.answered and entry.arch_id not in asked:
            yield Problem(where, f"was answered from the journal, but {entry.arch_id} was not asked for before")
        replicate, before = entry.candidate.replicate, asked[entry.arch_id]
        if replicate > 0 and before == 0:
            yield Problem(where, f"asks for replicate {replicate} of {entry.arch_id}, which was not asked for before")
        elif replicate not in (0, before):  # 0: the network is known, and the journal answers
            yield Problem(where, f"asks for replicate {replicate} of {entry.arch_id}, expected replicate {before}")
        asked[entry.arch_id] = max(before, replicate + 1)


def trial_problems(trials: Sequence[Trial], lineage: Sequence[Lineage], info: RunInfo) -> Iterator[Problem]:
    """Check the trials.

    They belong to candidates of their network; complete ones have objectives in range, others a reason. A replicate was
    asked for by its candidate, or it is of an extra round and has the candidate of its network's first training.
    """
    asked = {entry.candidate.number: entry.arch_id for entry in lineage}
    first = {trial.arch_id: trial.candidate for trial in trials if trial.replicate == 0}
    for trial in trials:
        where = f"trial {trial.arch_id}" + (f", replicate {trial.replicate}" if trial.replicate else "")
        if asked.get(trial.candidate.number) != trial.arch_id:
            yield Problem(where, f"candidate {trial.candidate.number} asked for another network")
        elif trial.arch_id not in first:
            yield Problem(where, "is a replicate of a network that has no first training")
        elif trial.candidate.replicate != trial.replicate and trial.candidate != first[trial.arch_id]:
            number, replicate = trial.candidate.number, trial.candidate.replicate
            yield Problem(where, f"candidate {number} asked for replicate {replicate}")
        reason = trial.evaluation.reason
        if trial.is_complete:
            yield from (Problem(where, what) for what in _objective_problems(trial, info.objectives))
        elif reason is None or (reason in INFEASIBLE_REASONS) != (trial.status is TrialStatus.INFEASIBLE):
            yield Problem(where, f"is {trial.status} for the reason {reason}")
        for score in trial.evaluation.scores:
            if score.distances.shape != (info.n_classes, info.n_classes):
                shape = "x".join(map(str, score.distances.shape))
                yield Problem(where, f"class distances of {score.scorer} are {shape} for {info.n_classes} classes")


def _objective_problems(trial: Trial, objectives: Sequence[str]) -> Iterator[str]:
    for name in objectives:
        objective, value = OBJECTIVES[name], trial.metrics.get(name, math.nan)
        if not (math.isfinite(value) and objective.low <= value <= objective.high):
            yield f"{name} is {value:g}, outside [{objective.low:g}, {objective.high:g}]"
