"""Entries of the journal as dataclasses, and their conversion to and from rows of the database.

Values survive the round trip exactly. In JSON columns NaN is null, and infinities are the strings "Infinity" and
"-Infinity", because JSON has no such numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def run_row(info: RunInfo) -> Row:
    """Return the row of the table `run`."""
    return {**vars(info), **{name: _json(getattr(info, name)) for name in ("objectives", "class_names", "alleles")}}


def run_info(row: Row) -> RunInfo:
    """Return the entry of a row of `run`. Raises ValueError if an objective is unknown."""
    lists = {name: tuple(json.loads(row[name])) for name in ("objectives", "class_names")}
    if unknown := [name for name in lists["objectives"] if name not in OBJECTIVES]:
        raise ValueError(f"unknown objective {unknown[0]!r}")
    alleles = tuple(tuple(names) for names in json.loads(row.get("alleles", "[]")))  # absent before schema 3
    return RunInfo(**{**row, **lists, "alleles": alleles})


def lineage_row(lineage: Lineage) -> Row:
    """Return the row of the table `candidates`."""
    candidate = lineage.candidate
    return {
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


def lineage(row: Row) -> Lineage:
    """Return the entry of a row of `candidates`."""
    return Lineage(_candidate(row, "genotype", "replicate"), row["arch_id"], bool(row["answered"]))


def event(row: Row) -> Event:
    """Return the event of a row of `events`."""
    return Event(**row)


def trial_row(trial: Trial) -> Row:
    """Return the row of the table `trials`; scores are separate rows."""
    evaluation = trial.evaluation
    return {
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
    return {
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
