"""Entries of the journal as dataclasses, and their conversion to and from rows of the database.

Values survive the round trip exactly. In JSON columns NaN is null, and infinities are the strings "Infinity" and
"-Infinity", because JSON has no such numbers. `nasx.runs.columns` checks the value of each column of a row that is
read; here the values are checked against each other, and RowError is raised if they do not fit.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasx.errors import RunError
from nasx.runs.columns import DISTANCES, READERS, History, RowError, check
from nasx.runs.schema import CHECKSUM, COLUMNS
from nasx.trial import INFEASIBLE_REASONS, Candidate, Evaluation, Genotype, Reason, Score, Trial, TrialStatus

Row = Mapping[str, Any]  # column -> value
_SCORE_COLUMNS = ("scorer", "value", "profile", "distances", "n_samples", "seconds", "completeness_error")


@dataclass(frozen=True)
class RunInfo:
    """Identity of a search, recorded when it starts and never changed."""

    name: str  # of the experiment
    created: str  # ISO 8601, UTC
    nasx_version: str
    torch_version: str
    python_version: str
    seed: int  # all other seeds are derived from it
    objectives: tuple[str, ...]  # names from nasx.trial.OBJECTIVES, in order
    n_classes: int
    class_names: tuple[str, ...]  # may be empty, e.g. for tabular runs
    config_hash: str  # of the settings that must be the same when the search resumes
    workers: int  # at the start; determines the lag of a steady-state search
    alleles: tuple[tuple[str, ...], ...] = ()  # names of each gene's alleles; empty: unknown
    config: Mapping[str, Any] = field(default_factory=dict)  # resolved, at the start; empty: unknown, of an older run

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        return f"<nasx run info: {self.name}, seed {self.seed}, objectives {', '.join(self.objectives)}>"


@dataclass(frozen=True)
class Lineage:
    """Journal entry of a candidate."""

    candidate: Candidate
    arch_id: str  # network that its genotype encodes
    answered: bool  # True if it needed no training of its own, because the network was known


@dataclass(frozen=True)
class NoiseRecord:
    """Estimate of the training noise in one objective."""

    trainings: int  # number of complete trainings used for the estimate
    objective: str
    std: float  # standard deviation of a single training around the true value of its network, unit of the objective
    share: float  # share of the noise in the variance of single trainings over the modeled networks, 0 to 1
    own_share: float  # share of the variance between networks not explained by a smooth function of the genes, 0 to 1
    length_scale: float  # of that function
    repeated: int  # number of networks trained more than once; the noise is estimated from them


@dataclass(frozen=True)
class Event:
    """Event during a search."""

    time: str  # ISO 8601, UTC
    kind: str
    message: str
    arch_id: str | None = None  # of the trial concerned, if any
    replicate: int | None = None


@dataclass(frozen=True)
class DataRecord:
    """Content of one part of the data that a search read, to detect other data when they are read again."""

    part: str  # e.g. "training images", "split", "table"
    digest: str  # SHA-256, hexadecimal
    facts: Mapping[str, Any]  # describe what the digest covers: number of images, per class, shape, class names, ...


def checksum(values: Sequence[object], run: str = "") -> str:
    """Return the checksum of a row: 16 digits of the SHA-256 of its run and of its other columns.

    It covers the run, so that rows of another run are detected, e.g. from the -wal file of another database.

    Args:
        values: Of the other columns, in the order of creation, as SQLite returns them.
        run: Checksum of the only row of the table `run`; empty for that row.

    >>> checksum([1, "a", None, 0.5])
    '495bed6d936adc58'
    """
    blobs = [value for value in values if type(value) is bytes]
    plain = [value for value in values if type(value) is not bytes] if blobs else values
    digest = hashlib.sha256(f"{run}{tuple(plain)}".encode("utf-8", "surrogatepass"))
    for blob in blobs:
        digest.update(blob)
    return digest.hexdigest()[:16]


def with_checksum(table: str, values: Mapping[str, Any], run: str = "") -> Row:
    """Return the row of a table as SQLite will return it, with its checksum. `run`: see `checksum`."""
    columns = COLUMNS[table].items()
    row = {name: _stored(values[name], kind) for name, kind in columns if name != CHECKSUM}
    return {**row, CHECKSUM: checksum(list(row.values()), run)}


def _stored(value: Any, kind: str) -> object:
    if value is None or kind == "BLOB":
        return value
    # SQLite stores -0.0 as 0.0
    return float(value) + 0.0 if kind == "REAL" else int(value) if kind == "INTEGER" else str(value)


def run_values(info: RunInfo) -> Row:
    """Return the columns of the table `run`."""
    lists = {name: _json(getattr(info, name)) for name in ("objectives", "class_names", "alleles")}
    return {**vars(info), **lists, "config": json.dumps(info.config)}


def run_info(row: Row) -> RunInfo:
    """Return the entry of the checked row of `run`."""
    info = RunInfo(**row)
    if len(info.class_names) not in (0, info.n_classes):
        raise RowError(f"class_names has {len(info.class_names)} names, expected none or n_classes, {info.n_classes}")
    return info


def data_values(record: DataRecord) -> Row:
    """Return the columns of the table `data`."""
    return {**vars(record), "facts": json.dumps(record.facts)}


def lineage_values(lineage: Lineage) -> Row:
    """Return the columns of the table `candidates`."""
    candidate = lineage.candidate
    return {
        "number": candidate.number,
        "arch_id": lineage.arch_id,
        "genotype": _json(candidate.genotype),
        "generation": candidate.generation,
        "operator": candidate.operator,
        "parents": _json(candidate.parents),
        "heard": _json(candidate.heard),
        "answered": lineage.answered,
        "replicate": candidate.replicate,
    }


def lineage(row: Row, info: RunInfo) -> Lineage:
    """Return the entry of a checked row of `candidates`."""
    candidate = Candidate(
        number=row["number"],
        genotype=row["genotype"],
        generation=row["generation"],
        operator=row["operator"],
        parents=row["parents"],
        heard=row.get("heard", ()),  # absent before schema 2
        replicate=row.get("replicate", 0),  # absent before schema 3
    )
    for name, numbers in (("parents", candidate.parents), ("heard", candidate.heard)):
        if numbers and max(numbers) >= candidate.number:
            raise RowError(f"{name} contains {max(numbers)}, expected earlier candidates than {candidate.number}")
    _check_genotype(candidate.genotype, info)
    return Lineage(candidate, row["arch_id"], bool(row["answered"]))


def _check_genotype(genotype: Genotype, info: RunInfo) -> None:
    """Raise RowError unless the genotype is one of the run's space. The alleles of old runs are unknown."""
    if not info.alleles:
        return
    if len(genotype) != len(info.alleles):
        raise RowError(f"genotype has {len(genotype)} genes, expected {len(info.alleles)}")
    for gene, (allele, names) in enumerate(zip(genotype, info.alleles, strict=True)):
        if allele >= len(names):
            raise RowError(f"genotype has the allele {allele} of gene {gene}, expected 0 to {len(names) - 1}")


def trial_values(trial: Trial) -> Row:
    """Return the columns of the table `trials`; scores are separate rows."""
    return {
        "arch_id": trial.arch_id,
        "replicate": trial.replicate,
        "number": trial.candidate.number,
        "genotype": _json(trial.genotype),
        "architecture": trial.architecture,
        "seed": trial.seed,
        **_evaluation_values(trial.evaluation),
        "finished": trial.finished,
        "retries": trial.retries,
        "gpu_seconds": trial.gpu_seconds,
    }


def _evaluation_values(evaluation: Evaluation) -> Row:
    return {
        "status": evaluation.status.value,
        "reason": evaluation.reason and evaluation.reason.value,
        "detail": evaluation.detail,
        "metrics": _json(_to_json_numbers(evaluation.metrics)),
        "history": _json([_to_json_numbers(epoch) for epoch in evaluation.history]),
        "train_seconds": float(evaluation.train_seconds),
        "score_seconds": float(evaluation.score_seconds),
    }


def trial(row: Row, asked: Lineage | None, scores: Mapping[int, Score], info: RunInfo) -> Trial:
    """Return the trial of a checked row.

    Args:
        row: Of the table `trials`.
        asked: Entry of its candidate; None: there is none.
        scores: Of the trial, by position.
        info: Names the objectives and the number of classes.
    """
    if asked is None:
        raise RowError(f"number is {row['number']}, expected the number of a candidate")
    if asked.arch_id != row["arch_id"]:
        raise RowError(f"arch_id is {row['arch_id']}, expected that of its candidate {row['number']}, {asked.arch_id}")
    _check_genotype(row["genotype"], info)
    evaluation = Evaluation(
        status=row["status"],
        reason=row["reason"],
        detail=row["detail"],
        metrics=row["metrics"],
        scores=tuple(scores[position] for position in sorted(scores)),
        history=row["history"],
        train_seconds=row["train_seconds"],
        score_seconds=row["score_seconds"],
    )
    if sorted(scores) != list(range(len(scores))):
        raise RowError(f"its scores have the positions {sorted(scores)}, expected 0 to {len(scores) - 1}")
    check_evaluation(evaluation, info)
    return Trial(
        arch_id=row["arch_id"],
        replicate=row["replicate"],
        genotype=row["genotype"],
        architecture=row["architecture"],
        seed=row["seed"],
        evaluation=evaluation,
        candidate=asked.candidate,
        finished=row["finished"],
        retries=row["retries"],
        gpu_seconds=row.get("gpu_seconds", 0.0),  # absent before schema 2
    )


def check_evaluation(evaluation: Evaluation, info: RunInfo) -> None:
    """Raise RowError unless the parts of an evaluation fit each other and the run."""
    status, reason = evaluation.status, evaluation.reason
    if status is TrialStatus.COMPLETE:
        expected = reason is None
        for name in info.objectives:
            if not math.isfinite(value := evaluation.metrics.get(name, math.nan)):
                raise RowError(f"metrics has {name} {value}, expected a finite number of a complete trial")
    else:
        expected = reason is not None and (reason in INFEASIBLE_REASONS) == (status is TrialStatus.INFEASIBLE)
    if not expected:
        raise RowError(f"reason is {reason and reason.value}, expected one of status {status.value}")
    for score in evaluation.scores:
        if len(score.distances) != info.n_classes:
            shape = "x".join(map(str, score.distances.shape))
            raise RowError(f"distances of {score.scorer} are {shape}, expected those of {info.n_classes} classes")


def recordable(evaluation: Evaluation, info: RunInfo) -> Evaluation:
    """Return an evaluation if the journal accepts it, else one that has failed, with the reason.

    A scorer or a table of the user may return values out of range, which every reader of the run would refuse.
    """
    try:
        for name, value in _evaluation_values(evaluation).items():
            check(name, READERS["trials"][name], value)
        _ = History(_evaluation_values(evaluation)["history"]).epochs
        for score in evaluation.scores:
            for name, value in _score_values(score).items():
                check(f"{name} of {score.scorer}", READERS["scores"][name], value)
        check_evaluation(evaluation, info)
    except (RunError, ValueError, TypeError) as exc:
        return Evaluation.failed(Reason.ERROR, f"the result cannot be recorded: {exc}")
    return evaluation


def score_values(trial: Trial, position: int, score: Score) -> Row:
    """Return the columns of the table `scores`.

    Args:
        trial: Trial whose network was scored.
        position: Index of the score among the trial's scores.
        score: The score.
    """
    return {"arch_id": trial.arch_id, "replicate": trial.replicate, "position": position, **_score_values(score)}


def _score_values(score: Score) -> Row:
    return {
        "scorer": score.scorer,
        "value": float(score.value),
        "profile": _json(_to_json_numbers(score.profile)),
        "distances": np.ascontiguousarray(score.distances, dtype=DISTANCES).tobytes(),
        "n_samples": score.n_samples,
        "seconds": float(score.seconds),
        "completeness_error": score.completeness_error,
    }


def score(row: Row) -> Score:
    """Return the score of a checked row of `scores`."""
    return Score(**{name: row[name] for name in _SCORE_COLUMNS})


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _to_json_numbers(numbers: Mapping[str, float]) -> dict[str, float | str | None]:
    return {name: _to_json_number(value) for name, value in numbers.items()}


def _to_json_number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
