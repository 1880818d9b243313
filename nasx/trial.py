"""The records that everything else passes around, and what the objectives mean.

An algorithm asks for a `Candidate`: a genotype with its descent. A candidate names a network, the network has an
`arch_id`, and a `Trial` is that network trained and scored once: the pair (arch_id, replicate). Several candidates
may name the same network; it is trained once and later candidates are answered from the journal.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasx.errors import ArchitectureError, SettingError

Genotype = tuple[int, ...]  # one allele a gene; gene i takes 0 <= allele < gene_sizes[i]

ARCH_ID_DIGITS = 10


class Direction(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True)
class Objective:
    """What an objective means. This module is the one place that states direction, range and unit."""

    name: str
    label: str  # for axes and table headers
    unit: str  # "%" values are kept as shares in [0, 1] and shown times 100
    direction: Direction
    low: float  # smallest value possible
    high: float  # largest value possible
    is_exact: bool = False  # whether every training of a network has the same value: it is counted, not measured

    @property
    def sign(self) -> int:
        """+1 where smaller is better, -1 where larger is: value * sign is a cost."""
        return 1 if self.direction is Direction.MINIMIZE else -1

    def reference(self, n_classes: int) -> float | None:
        """The value from which hypervolume is measured; None: the worst value among the trials that are compared.

        An error is measured from chance, 1 - 1/classes, and introspectability from 0, as in the paper's Table 1.
        """
        if self.name in ("error", "macro_error"):
            return 1 - 1 / n_classes
        return 0.0 if self.name == "introspectability" else None


OBJECTIVES: Mapping[str, Objective] = {
    o.name: o
    for o in (
        Objective("error", "validation error", "%", Direction.MINIMIZE, 0.0, 1.0),
        # every class counts the same, however few images it has
        Objective("macro_error", "macro error", "%", Direction.MINIMIZE, 0.0, 1.0),
        # signed vectors may point away from each other: cosine distances reach 2
        Objective("introspectability", "introspectability", "", Direction.MAXIMIZE, 0.0, 2.0),
        Objective("parameters", "parameters", "", Direction.MINIMIZE, 0.0, math.inf, is_exact=True),
        Objective("macs", "multiply-accumulates", "", Direction.MINIMIZE, 0.0, math.inf, is_exact=True),
        Objective("latency", "latency", "ms", Direction.MINIMIZE, 0.0, math.inf),
    )
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The range within which a metric must lie for a network to be feasible."""

    min: float | None = None  # inclusive; None: no bound
    max: float | None = None  # inclusive; None: no bound

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise SettingError("min", "or max must be given")
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise SettingError("min", f"must be less than max, got {self.min:g} and {self.max:g}")

    def hold(self, value: float) -> bool:
        """Whether a value lies within."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class TrialStatus(StrEnum):
    COMPLETE = "complete"  # trained, scored: the only status with objectives
    FAILED = "failed"  # something went wrong while training or scoring
    INFEASIBLE = "infeasible"  # nothing went wrong, but the network is out of bounds


class Reason(StrEnum):
    """Why a trial is not COMPLETE."""

    # FAILED
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    ERROR = "error"
    NO_SCORE = "no_score"
    # INFEASIBLE
    DISCONNECTED = "disconnected"  # no path from input to output: no network at all
    CONSTRAINT = "constraint"  # outside the bounds given by the config's constraints
    CHANCE_LEVEL = "chance_level"  # has not learned the task: not better than guessing
    DOMINATED = "dominated"  # stopped early: its training could no longer lead to the front


INFEASIBLE_REASONS = frozenset({Reason.DISCONNECTED, Reason.CONSTRAINT, Reason.CHANCE_LEVEL, Reason.DOMINATED})


@dataclass(frozen=True)
class Candidate:
    """What an algorithm asks for: a genotype and where it comes from."""

    number: int  # 0, 1, 2, ... in the order of asking
    genotype: Genotype
    generation: int  # 0 is the first
    operator: str  # how it was made: "random", "crossover+mutation", ...
    parents: tuple[int, ...] = ()  # numbers of the candidates that it descends from
    # numbers of the candidates whose answers were taken in since the candidate before, in that order: what this one and
    # all after it are bred from. An algorithm that does not tell has no early stopping
    heard: tuple[int, ...] = ()
    # which training of its network it asks for: 0 is the first; from 1 on it re-trains a known network
    replicate: int = 0


@dataclass(frozen=True, eq=False)
class Score:
    """How introspectable a trained network is, by one scorer."""

    scorer: str  # name of the scorer and variant, e.g. "shap"
    value: float  # mean over class pairs and layers; larger is more introspectable
    profile: Mapping[str, float]  # layer name -> introspectability at that layer, from input to output
    distances: NDArray[np.float64]  # (n_classes, n_classes) cosine distances, zero diagonal; NaN: no distance
    n_samples: int  # validation images that were used
    seconds: float
    completeness_error: float | None = None  # SHAP alone: mean |sum of values - logit gap| over mean |logit gap|


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of training and scoring a network once."""

    status: TrialStatus
    reason: Reason | None = None  # None where COMPLETE
    detail: str = ""  # a sentence or a traceback for the journal; empty where COMPLETE
    # error, introspectability, parameters, macs, ...: every cheap metric, objective or not
    metrics: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    # one record an epoch: epoch, learning_rate, train_loss, train_error, validation_loss, validation_error, ...
    history: tuple[Mapping[str, float], ...] = ()
    train_seconds: float = 0.0
    score_seconds: float = 0.0

    @classmethod
    def infeasible(cls, reason: Reason, detail: str, metrics: Mapping[str, float] | None = None) -> Evaluation:
        return cls(TrialStatus.INFEASIBLE, reason, detail, dict(metrics or {}))

    @classmethod
    def failed(cls, reason: Reason, detail: str, metrics: Mapping[str, float] | None = None) -> Evaluation:
        return cls(TrialStatus.FAILED, reason, detail, dict(metrics or {}))

    def score(self, scorer: str) -> Score | None:
        """The score of that name, if it was taken."""
        return next((s for s in self.scores if s.scorer == scorer), None)


@dataclass(frozen=True)
class Rung:
    """A moment of a training at which it is asked whether the front can still be reached."""

    epoch: int  # epochs that have ended
    improvement: Mapping[str, float]  # of error and macro_error: the largest fall seen from here to the end


@dataclass(frozen=True)
class Rival:
    """A complete trial that dominates whoever can no longer get past it in what shows during training, or before."""

    arch_id: str
    metrics: Mapping[str, float]  # the objectives among error, macro_error, parameters and macs


@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial to be evaluated: all that a worker is told."""

    arch_id: str
    replicate: int
    genotype: Genotype  # canonical
    seed: int  # of initialisation, order of images and augmentation
    weights_file: Path  # where its weights go
    micro_batches: int = 1  # parts of a batch whose gradients are added up: more of them need less memory
    rungs: tuple[Rung, ...] = ()  # where its training may be stopped early; (): it is trained to the end
    rivals: tuple[Rival, ...] = ()  # that it must be able to get past there


Evaluator = Callable[[Job], Evaluation]  # trains and scores, or looks up; picklable, called in a worker


@dataclass(frozen=True, eq=False)
class Trial:
    """One architecture trained and scored once, as the journal holds it."""

    arch_id: str
    replicate: int  # 0 is the first training; further seeds count up
    genotype: Genotype  # canonical
    architecture: str  # the space's string form of the genotype
    seed: int
    evaluation: Evaluation
    candidate: Candidate  # the candidate for which it was first trained
    finished: str = ""  # ISO 8601, UTC
    retries: int = 0  # attempts before the one that counts
    gpu_seconds: float = 0.0  # GPUs that it had times the seconds that it had them, all attempts together

    @property
    def status(self) -> TrialStatus:
        return self.evaluation.status

    @property
    def is_complete(self) -> bool:
        return self.evaluation.status is TrialStatus.COMPLETE

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.evaluation.metrics


def arch_id(space: str, settings: Mapping[str, Any], canonical: Genotype) -> str:
    """The identity of a network: hash of the space's name, its settings and the canonical genotype.

    >>> arch_id("nb201", {"channels": 16}, (1, 0)) == arch_id("nb201", {"channels": 16}, (1, 0))
    True
    """
    text = json.dumps([space, dict(settings), list(canonical)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ARCH_ID_DIGITS]


def resolve_arch_id(prefix: str, known: Iterable[str]) -> str:
    """The one id among `known` that begins with `prefix`.

    Raises ArchitectureError where none does, naming the nearest, or several do, listing them.

    >>> resolve_arch_id("3f", ["3fa0c11d22", "77b0c11d22"])
    '3fa0c11d22'
    """
    ids = sorted(set(known))
    matches = [i for i in ids if i.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        shown = prefix if len(prefix) <= 4 * ARCH_ID_DIGITS else f"{prefix[: 4 * ARCH_ID_DIGITS]}..."
        near = difflib.get_close_matches(prefix, {i[: len(prefix)] for i in ids}, n=1)
        hint = f"Did you mean {near[0]}?" if near else "`nasx pareto` lists those on the front."
        raise ArchitectureError(f"no architecture {shown!r} in this run. {hint}")
    more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
    raise ArchitectureError(
        f"{prefix!r} may mean {len(matches)} architectures: {', '.join(matches[:8])}{more}. Give more digits."
    )


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**31) that depends on all parts, and on nothing else.

    >>> derive_seed(0, "a", 1) == derive_seed(0, "a", 1) != derive_seed(0, "a", 2)
    True
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def costs(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The objectives as costs, all to be minimised, in the order given."""
    return tuple(o.sign * metrics[o.name] for o in objectives)


def cost_matrix(trials: Sequence[Trial], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Costs of complete trials, (n_trials, n_objectives)."""
    return np.array([costs(t.metrics, objectives) for t in trials], dtype=float).reshape(-1, len(objectives))
