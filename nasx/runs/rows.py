"""Entries of the journal as dataclasses, and their conversion to and from rows of the database.

Values survive the round trip exactly. In JSON columns NaN is null, and infinities are the strings "Infinity" and
"-Infinity", because JSON has no such numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasx.runs.schema import CHECKSUM, COLUMNS
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Reason, Score, Trial, TrialStatus

Row = Mapping[str, Any]  # column -> value
_DISTANCES = np.dtype("<f8")


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


def checksum(values: Iterable[object]) -> str:
    """Return the checksum of a row: 16 digits of the SHA-256 of its other columns, in the order of creation.

    >>> checksum([1, "a", None, 0.5])
    '495bed6d936adc58'
    """
    return hashlib.sha256(repr(tuple(values)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def with_checksum(table: str, values: Mapping[str, Any]) -> Row:
    """Return the row of a table as SQLite will return it, with its checksum."""
    columns = COLUMNS[table].items()
    row = {name: _stored(values[name], kind) for name, kind in columns if name != CHECKSUM}
    return {**row, CHECKSUM: checksum(row.values())}


def _stored(value: Any, kind: str) -> object:
    if value is None or kind == "BLOB":
        return value
    # SQLite stores -0.0 as 0.0
    return float(value) + 0.0 if kind == "REAL" else int(value) if kind == "INTEGER" else str(value)


def run_row(info: RunInfo) -> Row:
    """Return the row of the table `run`."""
    lists = {name: _json(getattr(info, name)) for name in ("objectives", "class_names", "alleles")}
    return with_checksum("run", {**vars(info), **lists, "config": json.dumps(info.config)})


def run_info(row: Row) -> RunInfo:
    """Return the entry of a row of `run`. Raises ValueError if an objective is unknown."""
    lists = {name: tuple(json.loads(row[name])) for name in ("objectives", "class_names")}
    if unknown := [name for name in lists["objectives"] if name not in OBJECTIVES]:
        raise ValueError(f"unknown objective {unknown[0]!r}")
    alleles = tuple(tuple(names) for names in json.loads(row.get("alleles", "[]")))  # absent before schema 3
    config = json.loads(row.get("config", "{}"))  # absent before schema 4
    return RunInfo(**{**row, **lists, "alleles": alleles, "config": config})


def data_row(record: DataRecord) -> Row:
    """Return the row of the table `data`."""
    return with_checksum("data", {**vars(record), "facts": json.dumps(record.facts)})


def data_record(row: Row) -> DataRecord:
    """Return the entry of a row of `data`."""
    return DataRecord(row["part"], row["digest"], json.loads(row["facts"]))


def noise_row(estimate: NoiseRecord) -> Row:
    """Return the row of the table `noise`."""
    return with_checksum("noise", vars(estimate))


def event_row(event: Event) -> Row:
    """Return the row of the table `events`."""
    return with_checksum("events", vars(event))


def lineage_row(lineage: Lineage) -> Row:
    """Return the row of the table `candidates`."""
    candidate = lineage.candidate
    values = {
        "number": candidate.number,
        "arch_id": lineage.arch_id,
        "genotype": _json(candidate.genotype),
        "generation": candidate.generation,
        "operator": candidate.operator,
        "parents": _json(candidate.parents),
        "heard": _json(candidate.heard),
        "answered": int(lineage.answered),
        "replicate": candidate.replicate,
    }
    return with_checksum("candidates", values)


def lineage(row: Row) -> Lineage:
    """Return the entry of a row of `candidates`."""
    return Lineage(_candidate(row, "genotype", "replicate"), row["arch_id"], bool(row["answered"]))


def event(row: Row) -> Event:
    """Return the event of a row of `events`."""
    return Event(**row)


def trial_row(trial: Trial) -> Row:
    """Return the row of the table `trials`; scores are separate rows."""
    evaluation = trial.evaluation
    values = {
        "arch_id": trial.arch_id,
        "replicate": trial.replicate,
        "number": trial.candidate.number,
        "genotype": _json(trial.genotype),
        "architecture": trial.architecture,
        "seed": trial.seed,
        "status": evaluation.status,
        "reason": evaluation.reason,
        "detail": evaluation.detail,
        "metrics": _json(_to_json_numbers(evaluation.metrics)),
        "history": _json([_to_json_numbers(epoch) for epoch in evaluation.history]),
        "train_seconds": evaluation.train_seconds,
        "score_seconds": evaluation.score_seconds,
        "finished": trial.finished,
        "retries": trial.retries,
        "gpu_seconds": trial.gpu_seconds,
    }
    return with_checksum("trials", values)


def trial(row: Row, scores: Sequence[Score]) -> Trial:
    """Return the trial of a row joined with its candidate's columns; `asked_genotype` is the candidate's genotype."""
    return Trial(
        arch_id=row["arch_id"],
        replicate=row["replicate"],
        genotype=tuple(json.loads(row["genotype"])),
        architecture=row["architecture"],
        seed=row["seed"],
        evaluation=Evaluation(
            status=TrialStatus(row["status"]),
            reason=Reason(row["reason"]) if row["reason"] else None,
            detail=row["detail"],
            metrics=_from_json_numbers(json.loads(row["metrics"])),
            scores=tuple(scores),
            history=tuple(_from_json_numbers(epoch) for epoch in json.loads(row["history"])),
            train_seconds=row["train_seconds"],
            score_seconds=row["score_seconds"],
        ),
        candidate=_candidate(row, "asked_genotype", "asked_replicate"),
        finished=row["finished"],
        retries=row["retries"],
        gpu_seconds=row.get("gpu_seconds", 0.0),  # absent before schema 2
    )


def score_row(trial: Trial, position: int, score: Score) -> Row:
    """Return the row of the table `scores`.

    Args:
        trial: Trial whose network was scored.
        position: Index of the score among the trial's scores.
        score: The score.
    """
    values = {
        "arch_id": trial.arch_id,
        "replicate": trial.replicate,
        "scorer": score.scorer,
        "position": position,
        "value": score.value,
        "profile": _json(_to_json_numbers(score.profile)),
        "distances": np.ascontiguousarray(score.distances, dtype=_DISTANCES).tobytes(),
        "n_samples": score.n_samples,
        "seconds": score.seconds,
        "completeness_error": score.completeness_error,
    }
    return with_checksum("scores", values)


def score(row: Row) -> Score:
    """Return the score of a row of `scores`."""
    distances = np.frombuffer(row["distances"], dtype=_DISTANCES)
    return Score(
        scorer=row["scorer"],
        value=row["value"],
        profile=_from_json_numbers(json.loads(row["profile"])),
        distances=distances.reshape(2 * (math.isqrt(distances.size),)),
        n_samples=row["n_samples"],
        seconds=row["seconds"],
        completeness_error=row["completeness_error"],
    )


def _candidate(row: Row, genotype: str, replicate: str) -> Candidate:
    return Candidate(
        number=row["number"],
        genotype=tuple(json.loads(row[genotype])),
        generation=row["generation"],
        operator=row["operator"],
        parents=tuple(json.loads(row["parents"])),
        heard=tuple(json.loads(row.get("heard", "[]"))),  # absent before schema 2
        replicate=row.get(replicate, 0),  # absent before schema 3
    )


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _to_json_numbers(numbers: Mapping[str, float]) -> dict[str, float | str | None]:
    return {name: _to_json_number(value) for name, value in numbers.items()}


def _to_json_number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _from_json_numbers(numbers: Mapping[str, float | str | None]) -> dict[str, float]:
    """Return the inverse of `_to_json_numbers`. Integers stay integers."""
    return {
        name: math.nan if value is None else float(value) if isinstance(value, str) else value
        for name, value in numbers.items()
    }
