"""What the journal holds besides trials, and how every record becomes a row and a row a record again.

Values survive the round trip exactly. JSON knows no NaN and no infinity: there NaN is null, and infinities are the
strings "Infinity" and "-Infinity".
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
    """What a search is: recorded when it starts and never changed."""

    name: str  # of the experiment
    created: str  # ISO 8601, UTC
    nasx_version: str
    torch_version: str
    python_version: str
    seed: int  # from which every other seed derives
    objectives: tuple[str, ...]  # names from nasx.trial.OBJECTIVES, in order
    n_classes: int
    class_names: tuple[str, ...]  # may be empty, e.g. for tabular runs
    config_hash: str  # of what must not change between a search and its resumption
    workers: int  # at the start: the lag of a steady-state search
    alleles: tuple[tuple[str, ...], ...] = ()  # names of each gene's alleles; empty: not known


@dataclass(frozen=True)
class Lineage:
    """A candidate as the journal holds it."""

    candidate: Candidate
    arch_id: str  # the network that it encodes
    answered: bool  # whether it needed no training of its own: the network was known


@dataclass(frozen=True)
class NoiseRecord:
    """How large the noise of training is in one objective, as it was estimated during a search."""

    trainings: int  # complete trainings that the estimate rests on
    objective: str
    std: float  # of a single training around the true value of its network, in the objective's unit
    share: float  # of the variance of single trainings over the networks modeled, 0 to 1
    own_share: float  # of the variance between networks that no smooth function of the genes explains
    length_scale: float  # of that function
    repeated: int  # networks trained more than once: by them the noise is known


@dataclass(frozen=True)
class Event:
    """Something that happened during a search."""

    time: str  # ISO 8601, UTC
    kind: str
    message: str
    arch_id: str | None = None  # the trial that it concerns
    replicate: int | None = None


def run_row(info: RunInfo) -> Row:
    return {**vars(info), **{name: _json(getattr(info, name)) for name in ("objectives", "class_names", "alleles")}}


def run_info(row: Row) -> RunInfo:
    lists = {name: tuple(json.loads(row[name])) for name in ("objectives", "class_names")}
    if unknown := [name for name in lists["objectives"] if name not in OBJECTIVES]:
        raise ValueError(f"there is no objective {unknown[0]!r}")
    alleles = tuple(tuple(names) for names in json.loads(row.get("alleles", "[]")))  # absent before schema 3
    return RunInfo(**{**row, **lists, "alleles": alleles})


def lineage_row(lineage: Lineage) -> Row:
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
    return Lineage(_candidate(row, "genotype", "replicate"), row["arch_id"], bool(row["answered"]))


def event(row: Row) -> Event:
    return Event(**row)


def trial_row(trial: Trial) -> Row:
    """The trial without its scores."""
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
        "metrics": _json(_writable(evaluation.metrics)),
        "history": _json([_writable(epoch) for epoch in evaluation.history]),
        "train_seconds": evaluation.train_seconds,
        "score_seconds": evaluation.score_seconds,
        "finished": trial.finished,
        "retries": trial.retries,
        "gpu_seconds": trial.gpu_seconds,
    }


def trial(row: Row, scores: Sequence[Score]) -> Trial:
    """The trial of a row that has the candidate's columns too, its genotype as `asked_genotype`."""
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
            metrics=_read(json.loads(row["metrics"])),
            scores=tuple(scores),
            history=tuple(_read(epoch) for epoch in json.loads(row["history"])),
            train_seconds=row["train_seconds"],
            score_seconds=row["score_seconds"],
        ),
        candidate=_candidate(row, "asked_genotype", "asked_replicate"),
        finished=row["finished"],
        retries=row["retries"],
        gpu_seconds=row.get("gpu_seconds", 0.0),  # absent before schema 2
    )


def score_row(trial: Trial, position: int, score: Score) -> Row:
    return {
        "arch_id": trial.arch_id,
        "replicate": trial.replicate,
        "scorer": score.scorer,
        "position": position,
        "value": score.value,
        "profile": _json(_writable(score.profile)),
        "distances": np.ascontiguousarray(score.distances, dtype=_DISTANCES).tobytes(),
        "n_samples": score.n_samples,
        "seconds": score.seconds,
        "completeness_error": score.completeness_error,
    }


def score(row: Row) -> Score:
    distances = np.frombuffer(row["distances"], dtype=_DISTANCES)
    return Score(
        scorer=row["scorer"],
        value=row["value"],
        profile=_read(json.loads(row["profile"])),
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


def _writable(numbers: Mapping[str, float]) -> dict[str, float | str | None]:
    return {name: _number(value) for name, value in numbers.items()}


def _number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _read(numbers: Mapping[str, float | str | None]) -> dict[str, float]:
    """The inverse of `_writable`; an integer stays one."""
    return {
        name: math.nan if value is None else float(value) if isinstance(value, str) else value
        for name, value in numbers.items()
    }
