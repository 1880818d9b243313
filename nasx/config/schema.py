"""What stands at the root of every config: names, types and ranges, and how the parts must fit together.

The components (dataset, space, training, scorer, algorithm, execution) are checked by their own constructors when they
are built (`nasx.config.components`); here they are plain mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasx.config.values import construct, convert, show
from nasx.errors import ConfigError, SettingError, did_you_mean
from nasx.trial import OBJECTIVES

GROUPS = ("dataset", "space", "training", "scorer", "algorithm", "execution")  # what a defaults list chooses


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


@dataclass(frozen=True, kw_only=True)
class Split:
    """How validation images are cut from the training images."""

    validation_fraction: float  # share of the images, in (0, 1)
    train_images: int | None  # at most; None: all that remain
    validation_images: int | None  # at most; None: all of the share

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise SettingError("validation_fraction", f"must lie between 0 and 1, got {self.validation_fraction:g}")
        for name in ("train_images", "validation_images"):
            _at_least(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What holds for the search as a whole, whatever its algorithm."""

    time_limit: float | None  # seconds a trial; None: no limit
    retries: int  # further attempts for a trial lost with its worker or out of memory
    max_failure_share: float  # of the first trials, for one reason, in (0, 1]

    def __post_init__(self) -> None:
        if self.time_limit is not None and self.time_limit <= 0:
            raise SettingError("time_limit", f"must be more than 0 seconds, got {self.time_limit:g}")
        _at_least("retries", self.retries, 0)
        if not 0 < self.max_failure_share <= 1:
            raise SettingError("max_failure_share", f"must lie in (0, 1], got {self.max_failure_share:g}")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole config, checked."""

    name: str  # folder of the runs under runs_dir
    seed: int  # >= 0
    runs_dir: Path
    objectives: tuple[str, ...]  # names in nasx.trial.OBJECTIVES, at least one, all different
    constraints: Mapping[str, Bounds]  # by name of the metric
    split: Split
    search: Search
    dataset: Mapping[str, Any]  # each component: _target_ and the arguments of its constructor
    space: Mapping[str, Any]
    training: Mapping[str, Any]
    scorer: Mapping[str, Any]
    algorithm: Mapping[str, Any]  # without evaluations, which is the search's business
    execution: Mapping[str, Any]
    also_scored: Mapping[str, Mapping[str, Any]]  # further scorers, by a name of the user's choice
    evaluations: int  # algorithm.evaluations: candidates that the algorithm is asked for
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions and overrides; in a run's config.yaml alone

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise SettingError("name", f"must be the name of a folder, without a path, got {self.name!r}")
        _at_least("seed", self.seed, 0)
        _at_least("algorithm.evaluations", self.evaluations, 1)
        if not self.objectives:
            raise SettingError("objectives", f"must name at least one of {', '.join(OBJECTIVES)}")
        for metric in (*self.objectives, *self.constraints):
            where = "objectives" if metric in self.objectives else "constraints"
            if metric not in OBJECTIVES:
                raise SettingError(
                    where, f"must name known metrics, got {metric!r}. {did_you_mean(metric, OBJECTIVES)}"
                )
        if len(set(self.objectives)) < len(self.objectives):
            raise SettingError("objectives", f"must all be different, got {', '.join(self.objectives)}")


def read(config: Mapping[str, Any]) -> Experiment:
    """The experiment that a composed config describes. Raises ConfigError naming the key that is wrong."""
    for group in GROUPS:
        if config.get(group) is None:
            raise ConfigError(f"{group} is missing: choose one in the config's defaults list, as `- {group}: NAME`.")
        if not isinstance(config[group], Mapping):
            raise ConfigError(f"{group} must be a component with its settings, got {show(config[group])}.")
    algorithm = dict(config["algorithm"])
    if "evaluations" not in algorithm:
        raise ConfigError("algorithm.evaluations is missing: the number of candidates to ask for, e.g. 64.")
    evaluations = convert(algorithm.pop("evaluations"), int, "algorithm.evaluations")
    return construct(Experiment, {**config, "algorithm": algorithm}, supplied={"evaluations": evaluations})


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise SettingError(name, f"must be at least {low}, got {value}")
