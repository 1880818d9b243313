"""What stands at the root of every config: names, types and ranges, and how the parts must fit together.

The components (dataset, space, training, scorer, algorithm, execution) are checked by their own constructors when they
are built (`nasx.config.components`); here they are plain mappings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from nasx.config.settings import construct, convert, settings, yaml_text
from nasx.errors import ConfigError, SettingError, did_you_mean
from nasx.trial import OBJECTIVES, Bounds

GROUPS = ("dataset", "space", "training", "scorer", "algorithm", "execution")  # what a defaults list chooses
ONLY_FOR_TRAINING = ("dataset", "training", "scorer")  # not needed where candidates are looked up in a table


@settings
class Split:
    """How validation images are cut from the training images."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]  # share of the images
    train_images: Annotated[int, Field(ge=1)] | None  # at most; None: all that remain
    validation_images: Annotated[int, Field(ge=1)] | None  # at most; None: all of the share


@settings
class Search:
    """Settings of the search as a whole, whatever its algorithm."""

    replicates: Annotated[int, Field(ge=0)] = 0  # rounds that train networks on or near the front again
    max_hours: Annotated[float, Field(gt=0)] | None = None  # of one session; None: no limit
    max_gpu_hours: Annotated[float, Field(gt=0)] | None = None  # of all sessions: GPUs held by trials times hours
    patience: Annotated[int, Field(ge=1)] | None = None  # trainings in a row without growth of the hypervolume
    time_limit: Annotated[float, Field(gt=0)] | None  # seconds per trial; None: no limit
    stall_limit: Annotated[float, Field(gt=0)] | None = None  # seconds of a trial without an epoch or a score
    retries: Annotated[int, Field(ge=0)]  # further attempts for a trial that failed by a possible fault of the machine
    max_crashes: Annotated[int, Field(ge=1)] = 6  # crashes of the search during a trial, before it is given up
    max_failure_share: Annotated[float, Field(gt=0, le=1)]  # of the latest trials, for one reason


@settings
class ExperimentConfig:
    """A whole config, checked."""

    name: str  # folder of the runs under runs_dir
    seed: Annotated[int, Field(ge=0)]
    runs_dir: Path
    objectives: tuple[str, ...]  # names in nasx.trial.OBJECTIVES, at least one, all different
    constraints: Mapping[str, Bounds]  # by name of the metric
    split: Split
    search: Search
    space: Mapping[str, Any]  # each component: _target_ and the arguments of its constructor
    algorithm: Mapping[str, Any]  # without evaluations and early_stopping, which belong to the search
    execution: Mapping[str, Any]
    dataset: Mapping[str, Any] = field(default_factory=dict)  # this and the next two: if candidates are trained
    training: Mapping[str, Any] = field(default_factory=dict)
    scorer: Mapping[str, Any] = field(default_factory=dict)
    also_scored: Mapping[str, Mapping[str, Any]]  # further scorers, by a name of the user's choice
    evaluations: Annotated[int, Field(ge=1)]  # algorithm.evaluations: trainings, re-trainings included
    early_stopping: bool = False  # algorithm.early_stopping: stop trainings that cannot reach the front
    finetune_front: Annotated[float, Field(gt=0)] | None = None  # weight of the regularizer in fine-tuning; None: none
    logger: Mapping[str, Any] | None = None  # a component that shows the trials elsewhere
    evaluation: Mapping[str, Any] | None = None  # a component that looks candidates up; None: they are trained
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions and overrides; only in a run's config.yaml

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or Path(self.name).name != self.name:
            raise SettingError("name", f"must be the name of a folder, without a path, got {self.name!r}")
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
        "evaluations": convert(algorithm.pop("evaluations"), Annotated[int, Field(ge=1)], "algorithm.evaluations"),
        "early_stopping": convert(algorithm.pop("early_stopping", False), bool, "algorithm.early_stopping"),
    }
    return construct(ExperimentConfig, {**config, "algorithm": algorithm}, supplied=supplied)


def _check_component(key: str, node: Any) -> None:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{key} must be a component with its settings, got {yaml_text(node)}.")


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
