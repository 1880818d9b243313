"""Data classes of a search, and the definitions of the objectives.

An algorithm proposes a `Candidate`: a genotype with its lineage. The genotype encodes a network, identified by its
`arch_id`. A `Trial` is one training and scoring of a network, identified by (arch_id, replicate). If several candidates
encode the same network, it is trained once, and later candidates are answered from the journal.
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

Genotype = tuple[int, ...]  # one allele per gene, 0 <= allele < gene_sizes[gene]

ARCH_ID_DIGITS = 10


class Direction(StrEnum):
    """Direction of optimization of an objective."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True)
class Objective:
    """Definition of an objective: direction, range and unit. Defined only in this module."""

    name: str
    label: str  # for axes and table headers
    unit: str  # values with unit "%" are stored as shares in [0, 1] and displayed in percent
    direction: Direction
    low: float  # smallest possible value
    high: float  # largest possible value
    is_exact: bool = False  # True if all trainings of a network have the same value, e.g. its number of parameters

    @property
    def sign(self) -> int:
        """Return +1 if smaller is better, -1 if larger is better: value * sign is a cost."""
        return 1 if self.direction is Direction.MINIMIZE else -1

    def reference(self, n_classes: int) -> float | None:
        """Return the reference point of the hypervolume; None: the worst value of the compared trials.

        It is chance level, 1 - 1/classes, for errors and 0 for introspectability, as in Table 1 of the paper.
        """
        if self.name in ("error", "macro_error"):
            return 1 - 1 / n_classes
        return 0.0 if self.name == "introspectability" else None


OBJECTIVES: Mapping[str, Objective] = {
    o.name: o
    for o in (
        Objective("error", "validation error", "%", Direction.MINIMIZE, 0.0, 1.0),
        # mean error of the classes, each with the same weight
        Objective("macro_error", "macro error", "%", Direction.MINIMIZE, 0.0, 1.0),
        # cosine distances of signed vectors range up to 2
        Objective("introspectability", "introspectability", "", Direction.MAXIMIZE, 0.0, 2.0),
        Objective("parameters", "parameters", "", Direction.MINIMIZE, 0.0, math.inf, is_exact=True),
        Objective("macs", "multiply-accumulates", "", Direction.MINIMIZE, 0.0, math.inf, is_exact=True),
        # of one image, measured on the device of the trial (`nasx.evaluation.device`): it varies between machines
        Objective("latency", "latency", "ms", Direction.MINIMIZE, 0.0, math.inf),
    )
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Feasible range of a metric."""

    min: float | None = None  # inclusive; None: no bound
    max: float | None = None  # inclusive; None: no bound

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise SettingError("min", "or max is required")
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise SettingError("min", f"must be less than max, got {self.min:g} and {self.max:g}")

    def contains(self, value: float) -> bool:
        """Return whether a value is in the range."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class TrialStatus(StrEnum):
    """Outcome of a trial."""

    COMPLETE = "complete"  # trained and scored; the only status with objectives
    FAILED = "failed"  # an error during training or scoring
    INFEASIBLE = "infeasible"  # no error, but the network violates a constraint


class Reason(StrEnum):
    """Reason why a trial is not COMPLETE."""

    # FAILED
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    ERROR = "error"
    NO_SCORE = "no_score"
    # INFEASIBLE
    DISCONNECTED = "disconnected"  # no path from input to output
    CONSTRAINT = "constraint"  # outside the bounds in the config's constraints
    CHANCE_LEVEL = "chance_level"  # not better than guessing
    DOMINATED = "dominated"  # stopped early: it could no longer reach the front


INFEASIBLE_REASONS = frozenset({Reason.DISCONNECTED, Reason.CONSTRAINT, Reason.CHANCE_LEVEL, Reason.DOMINATED})


@dataclass(frozen=True)
class Candidate:
    """Genotype proposed by an algorithm, with its lineage."""

    number: int  # 0, 1, 2, ... in the order of proposal
    genotype: Genotype
    generation: int  # 0 is the first
    operator: str  # how it was created: "random", "crossover+mutation", ...
    parents: tuple[int, ...] = ()  # numbers of its parents
    # numbers of the candidates whose results the algorithm received since the previous proposal, in that order: this
    # candidate and all later ones depend on them. Early stopping needs an algorithm that reports them
    heard: tuple[int, ...] = ()
    # requested training of its network: 0 is the first, 1, 2, ... re-train a known network
    replicate: int = 0


@dataclass(frozen=True, eq=False)
class Score:
    """Introspectability of a trained network, measured by one scorer."""

    scorer: str  # name of the scorer and variant, e.g. "shap"
    value: float  # mean over class pairs and layers; larger is better
    profile: Mapping[str, float]  # layer name -> introspectability at that layer, from input to output
    distances: NDArray[np.float64]  # (n_classes, n_classes) cosine distances, zero diagonal; NaN: undefined
    n_samples: int  # number of validation images used
    seconds: float
    completeness_error: float | None = None  # only SHAP: mean |sum of values - logit gap| / mean |logit gap|

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        return f"<nasx score {self.scorer}: {self.value:.3f} from {self.n_samples} images>"


MEASURED_ON = "latency measured on "  # begins the note on the device in `Evaluation.detail`


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of one training and scoring of a network."""

    status: TrialStatus
    reason: Reason | None = None  # None if COMPLETE
    detail: str = ""  # sentence or traceback for the journal; if COMPLETE, notes separated by "; ", usually none
    # error, introspectability, parameters, macs, ...: objectives and all other cheap metrics
    metrics: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    # one entry per epoch: epoch, learning_rate, train_loss, train_error, validation_loss, validation_error, ...
    history: tuple[Mapping[str, float], ...] = ()
    train_seconds: float = 0.0
    score_seconds: float = 0.0

    @classmethod
    def infeasible(cls, reason: Reason, detail: str, metrics: Mapping[str, float] | None = None) -> Evaluation:
        """Return the evaluation of an infeasible trial.

        Args:
            reason: The violated constraint.
            detail: Sentence for the journal.
            metrics: Metrics known so far.
        """
        return cls(TrialStatus.INFEASIBLE, reason, detail, dict(metrics or {}))

    @classmethod
    def failed(cls, reason: Reason, detail: str, metrics: Mapping[str, float] | None = None) -> Evaluation:
        """Return the evaluation of a failed trial.

        Args:
            reason: The kind of failure.
            detail: Sentence or traceback for the journal.
            metrics: Metrics known so far.
        """
        return cls(TrialStatus.FAILED, reason, detail, dict(metrics or {}))

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        outcome = self.status if self.reason is None else f"{self.status}, {self.reason}"
        return f"<nasx evaluation: {outcome}, {len(self.metrics)} metrics, {len(self.history)} epochs>"

    @property
    def latency_device(self) -> str:
        """Return the device on which the latency was measured; "" if it was not measured, or the trial has failed."""
        notes = self.detail.split("; ") if self.status is TrialStatus.COMPLETE else ()
        return next((note.removeprefix(MEASURED_ON) for note in notes if note.startswith(MEASURED_ON)), "")

    def score(self, scorer: str) -> Score | None:
        """Return the score of a scorer, or None."""
        return next((s for s in self.scores if s.scorer == scorer), None)


@dataclass(frozen=True)
class Rung:
    """Epoch of a training after which early stopping checks whether the network can still reach the front."""

    epoch: int  # number of finished epochs
    improvement: Mapping[str, float]  # largest decrease of error and macro_error observed from here to the end


@dataclass(frozen=True)
class Rival:
    """Complete trial for early stopping: it dominates a network that cannot surpass it in error, parameters or macs."""

    arch_id: str
    metrics: Mapping[str, float]  # the objectives among error, macro_error, parameters and macs


@dataclass(frozen=True, kw_only=True)
class Job:
    """Trial to evaluate: the input of a worker."""

    arch_id: str
    replicate: int
    genotype: Genotype  # canonical
    seed: int  # of initialization, order of images and augmentation
    weights_file: Path  # destination of its weights, <run directory>/archs/<arch_id>/<file>
    run_inode: int | None = None  # of the run directory, to detect that it was replaced; None: unknown
    micro_batches: int = 1  # parts of a batch whose gradients are accumulated; more parts need less memory
    rungs: tuple[Rung, ...] = ()  # epochs at which training may stop early; (): never
    rivals: tuple[Rival, ...] = ()  # trials that it must be able to surpass at the rungs


Evaluator = Callable[[Job], Evaluation]  # trains and scores, or looks up in a table; picklable, called in a worker


@dataclass(frozen=True, eq=False)
class Trial:
    """Journal entry of one training and scoring of a network."""

    arch_id: str
    replicate: int  # 0 is the first training; 1, 2, ... are re-trainings with other seeds
    genotype: Genotype  # canonical
    architecture: str  # the space's string form of the genotype
    seed: int
    evaluation: Evaluation
    candidate: Candidate  # that requested it; for an extra round: that of the first training
    finished: str = ""  # ISO 8601, UTC
    retries: int = 0  # number of attempts before the final one
    gpu_seconds: float = 0.0  # number of GPUs times seconds, over all attempts

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        found = [f"{name} {self.metrics[name]:.3f}" for name in ("error", "introspectability") if name in self.metrics]
        outcome = ", ".join([self.evaluation.reason or self.status, *found])
        return f"<nasx trial {self.arch_id}, replicate {self.replicate}: {outcome}>"

    @property
    def status(self) -> TrialStatus:
        """Return the outcome of the trial."""
        return self.evaluation.status

    @property
    def is_complete(self) -> bool:
        """Return whether the trial has objectives."""
        return self.evaluation.status is TrialStatus.COMPLETE

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the metrics of the trial by name."""
        return self.evaluation.metrics


def arch_id(space: str, settings: Mapping[str, Any], canonical: Genotype) -> str:
    """Return the identity of a network, a hash of 10 hexadecimal digits.

    Args:
        space: Name of the search space.
        settings: Settings of the space that shape the network, as JSON values.
        canonical: Canonical genotype.

    >>> arch_id("nb201", {"channels": 16}, (1, 0)) == arch_id("nb201", {"channels": 16}, (1, 0))
    True
    """
    text = json.dumps([space, dict(settings), list(canonical)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ARCH_ID_DIGITS]


def resolve_arch_id(prefix: str, known: Iterable[str]) -> str:
    """Return the only id of `known` that starts with `prefix`. Raises ArchitectureError if none or several do.

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
        f"{prefix!r} matches {len(matches)} architectures: {', '.join(matches[:8])}{more}. Use more digits."
    )


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**31), a hash of all parts.

    >>> derive_seed(0, "a", 1) == derive_seed(0, "a", 1) != derive_seed(0, "a", 2)
    True
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def costs(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return the objectives as costs to minimize, in the given order."""
    return tuple(o.sign * metrics[o.name] for o in objectives)


def cost_matrix(trials: Sequence[Trial], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Return the costs of complete trials, (n_trials, n_objectives)."""
    return np.array([costs(t.metrics, objectives) for t in trials], dtype=float).reshape(-1, len(objectives))
