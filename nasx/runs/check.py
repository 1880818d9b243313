"""Integrity check of a run directory: journal, lineage, trials and weight files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasx.errors import RunError
from nasx.files import find_corruption
from nasx.runs.directory import DATABASE, kept_weights
from nasx.runs.journal import Journal
from nasx.runs.rows import Lineage, RunInfo
from nasx.trial import INFEASIBLE_REASONS, OBJECTIVES, Trial, TrialStatus


@dataclass(frozen=True)
class Defect:
    """One problem found in a run."""

    location: str  # "run.db", "candidate 5", "trial 3fa0c11d22", or a file in the run directory
    message: str  # sentence without a final period


def check_run(run_dir: Path) -> list[Defect]:
    """Return all problems of a run; empty if there are none. Reads all files and changes none.

    A candidate without a trial is not a problem: the search was stopped before the trial finished.
    Raises RunError if `run_dir` is not a run directory, or if its journal cannot be opened or is of a newer nasx.
    """
    with Journal.open(run_dir, read_only=True) as journal:
        found = [Defect(DATABASE, message) for message in journal.problems()]
        try:
            lineage, trials = journal.candidates(), journal.trials()
        except (RunError, ValueError, KeyError) as exc:  # the file is a database, but its rows cannot be read
            return [*found, Defect(DATABASE, f"its entries cannot be read ({exc})")]
    found += lineage_defects(lineage)
    found += trial_defects(trials, lineage, journal.info)
    found += (
        Defect(path.relative_to(run_dir).as_posix(), message)
        for path in kept_weights(run_dir).values()
        if (message := find_corruption(path)) is not None
    )
    return found


def lineage_defects(lineage: Sequence[Lineage]) -> Iterator[Defect]:
    """Check the candidates.

    They must be numbered 0, 1, 2, ..., descend from earlier candidates and be answered by earlier ones, and request
    the trainings of each network in order.
    """
    requested: Counter[str] = Counter()  # trainings of each network
    for position, entry in enumerate(lineage):
        location = f"candidate {entry.candidate.number}"
        if entry.candidate.number != position:
            yield Defect(location, f"candidate {position} is missing before it")
            return
        late = [parent for parent in entry.candidate.parents if not 0 <= parent < position]
        if late:
            yield Defect(location, f"descends from candidate {late[0]}, which does not come before it")
        late = [number for number in entry.candidate.heard if not 0 <= number < position]
        if late:
            yield Defect(location, f"depends on the result of candidate {late[0]}, which does not come before it")
        if entry.answered and entry.arch_id not in requested:
            yield Defect(location, f"was answered from the journal, but {entry.arch_id} was not requested before")
        replicate, expected = entry.candidate.replicate, requested[entry.arch_id]
        if replicate > 0 and expected == 0:
            yield Defect(location, f"requests replicate {replicate} of {entry.arch_id}, which was not requested before")
        elif replicate not in (0, expected):  # 0: the network is known, and the journal answers
            yield Defect(location, f"requests replicate {replicate} of {entry.arch_id}, expected replicate {expected}")
        requested[entry.arch_id] = max(expected, replicate + 1)


def trial_defects(trials: Sequence[Trial], lineage: Sequence[Lineage], info: RunInfo) -> Iterator[Defect]:
    """Check the trials.

    Each must belong to a candidate of its network; complete ones need objectives in range, others a reason. A replicate
    must be requested by its candidate, or be of an extra round and have the candidate of its network's first training.

    Args:
        trials: All trials of the run.
        lineage: All candidates of the run.
        info: Names the objectives and the number of classes.
    """
    requested = {entry.candidate.number: entry.arch_id for entry in lineage}
    first = {trial.arch_id: trial.candidate for trial in trials if trial.replicate == 0}
    for trial in trials:
        location = f"trial {trial.arch_id}" + (f", replicate {trial.replicate}" if trial.replicate else "")
        if requested.get(trial.candidate.number) != trial.arch_id:
            yield Defect(location, f"candidate {trial.candidate.number} requested another network")
        elif trial.arch_id not in first:
            yield Defect(location, "is a replicate of a network that has no first training")
        elif trial.candidate.replicate != trial.replicate and trial.candidate != first[trial.arch_id]:
            number, replicate = trial.candidate.number, trial.candidate.replicate
            yield Defect(location, f"candidate {number} requested replicate {replicate}")
        reason = trial.evaluation.reason
        if trial.is_complete:
            yield from (Defect(location, message) for message in _objective_problems(trial, info.objectives))
        elif reason is None or (reason in INFEASIBLE_REASONS) != (trial.status is TrialStatus.INFEASIBLE):
            yield Defect(location, f"is {trial.status} for the reason {reason}")
        for score in trial.evaluation.scores:
            if score.distances.shape != (info.n_classes, info.n_classes):
                shape = "x".join(map(str, score.distances.shape))
                yield Defect(location, f"class distances of {score.scorer} are {shape} for {info.n_classes} classes")


def _objective_problems(trial: Trial, objectives: Sequence[str]) -> Iterator[str]:
    for name in objectives:
        objective, value = OBJECTIVES[name], trial.metrics.get(name, math.nan)
        if not (math.isfinite(value) and objective.low <= value <= objective.high):
            yield f"{name} is {value:g}, outside [{objective.low:g}, {objective.high:g}]"
