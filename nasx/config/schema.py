"""What stands at the root of every config: names, types and ranges, and how the parts must fit together.

The components (dataset, space, training, scorer, algorithm, execution) are checked by their own constructors when they
are built (`nasx.config.components`); here they are plain mappings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasx.config.settings import construct, convert, show
from nasx.errors import ConfigError, SettingError, did_you_mean
from nasx.trial import OBJECTIVES, Bounds

GROUPS = ("dataset", "space", "training", "scorer", "algorithm", "execution")  # what a defaults list chooses
ONLY_FOR_TRAINING = ("dataset", "training", "scorer")  # not needed where candidates are looked up in a table


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

    replicates: int = 0  # rounds in which networks on or near the front are trained again
    max_hours: float | None = None  # of one session; None: no limit
    max_gpu_hours: float | None = None  # of all sessions: GPUs times the time that trials had them; None: no limit
    patience: int | None = None  # trainings in a row without the hypervolume growing; None: no limit
    time_limit: float | None  # seconds a trial; None: no limit
    stall_limit: float | None = None  # seconds of a trial without an epoch or a score; None: no limit
    retries: int  # further attempts for a trial that failed through what may be the machine's fault
    max_crashes: int = 6  # searches that may die while a trial runs, before it is given up
    max_failure_share: float  # of the latest trials, for one reason, in (0, 1]

    def __post_init__(self) -> None:
        for name, unit in (
            ("time_limit", " seconds"),
            ("stall_limit", " seconds"),
            ("max_hours", ""),
            ("max_gpu_hours", ""),
        ):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise SettingError(name, f"must be more than 0{unit}, got {value:g}")
        _at_least("replicates", self.replicates, 0)
        _at_least("patience", self.patience, 1)
        _at_least("retries", self.retries, 0)
        _at_least("max_crashes", self.max_crashes, 1)
        if not 0 < self.max_failure_share <= 1:
            raise SettingError("max_failure_share", f"must lie in (0, 1], got {self.max_failure_share:g}")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A whole config, checked."""

    name: str  # folder of the runs under runs_dir
    seed: int  # >= 0
    runs_dir: Path
    objectives: tuple[str, ...]  # names in nasx.trial.OBJECTIVES, at least one, all different
    constraints: Mapping[str, Bounds]  # by name of the metric
    split: Split
    search: Search
    space: Mapping[str, Any]  # each component: _target_ and the arguments of its constructor
    algorithm: Mapping[str, Any]  # without evaluations and early_stopping, which are the search's business
    execution: Mapping[str, Any]
    dataset: Mapping[str, Any] = field(default_factory=dict)  # this and the next two: where candidates are trained
    training: Mapping[str, Any] = field(default_factory=dict)
    scorer: Mapping[str, Any] = field(default_factory=dict)
    also_scored: Mapping[str, Mapping[str, Any]]  # further scorers, by a name of the user's choice
    evaluations: int  # algorithm.evaluations: trainings, re-trainings included
    early_stopping: bool = False  # algorithm.early_stopping: whether trainings that cannot reach the front are cut
    finetune_front: float | None = None  # weight of the regulariser in training the front on; None: left as it is
    logger: Mapping[str, Any] | None = None  # a component that shows the trials elsewhere; None: nowhere
    evaluation: Mapping[str, Any] | None = None  # a component that answers in place of training; None: by training
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions and overrides; in a run's config.yaml alone

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or Path(self.name).name != self.name:
            raise SettingError("name", f"must be the name of a folder, without a path, got {self.name!r}")
        _at_least("seed", self.seed, 0)
        _at_least("algorithm.evaluations", self.evaluations, 1)
        if self.finetune_front is not None and not 0 < self.finetune_front < math.inf:
            raise SettingError("finetune_front", f"must be more than 0, or null, got {self.finetune_front:g}")
        if self.finetune_front is not None and self.evaluation is not None:
            raise SettingError("finetune_front", "needs trained networks, but candidates are looked up in a table")
        _check_objectives(self.objectives)
        for metric, bounds in self.constraints.items():
            _check_bounds(metric, bounds)


def read_config(config: Mapping[str, Any]) -> ExperimentConfig:
    """The experiment that a composed config describes. Raises ConfigError naming the key that is wrong."""
    looked_up = config.get("evaluation") is not None
    for group in GROUPS:
        if config.get(group) is None:
            if looked_up and group in ONLY_FOR_TRAINING:
                continue
            raise ConfigError(f"{group} is missing: choose one in the config's defaults list, as `- {group}: NAME`.")
        _check_component(group, config[group])
    for group in ("evaluation", "logger"):
        if config.get(group) is not None:
            _check_component(group, config[group])
    also_scored = config.get("also_scored")
    for name, node in also_scored.items() if isinstance(also_scored, Mapping) else ():
        _check_component(f"also_scored.{name}", node)
    algorithm = dict(config["algorithm"])
    if "evaluations" not in algorithm:
        raise ConfigError("algorithm.evaluations is missing: the number of candidates to ask for, e.g. 64.")
    for name in ("evaluations", "early_stopping"):
        if name in config:
            raise ConfigError(f"unknown key {name}. Did you mean algorithm.{name}?")
    supplied = {
        "evaluations": convert(algorithm.pop("evaluations"), int, "algorithm.evaluations"),
        "early_stopping": convert(algorithm.pop("early_stopping", False), bool, "algorithm.early_stopping"),
    }
    return construct(ExperimentConfig, {**config, "algorithm": algorithm}, supplied=supplied)


def _check_component(key: str, node: Any) -> None:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{key} must be a component with its settings, got {show(node)}.")


def _check_objectives(names: Sequence[str]) -> None:
    if not names:
        raise SettingError("objectives", f"must name at least one of {', '.join(OBJECTIVES)}")
    for name in names:
        if name not in OBJECTIVES:
            raise SettingError("objectives", f"must be known metrics, got {name!r}. {did_you_mean(name, OBJECTIVES)}")
    if len(set(names)) < len(names):
        raise SettingError("objectives", f"must all be different, got {', '.join(names)}")


def _check_bounds(metric: str, bounds: Bounds) -> None:
    if metric not in OBJECTIVES:
        raise SettingError(
            "constraints", f"must be on known metrics, got {metric!r}. {did_you_mean(metric, OBJECTIVES)}"
        )
    low, high = OBJECTIVES[metric].low, OBJECTIVES[metric].high
    for name, bound in (("min", bounds.min), ("max", bounds.max)):
        if bound is not None and not low <= bound <= high:
            raise SettingError(
                f"constraints.{metric}.{name}", f"must lie in [{low:g}, {high:g}], the range of {metric}, got {bound:g}"
            )


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise SettingError(name, f"must be at least {low}, got {value}")
