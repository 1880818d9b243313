"""Root of a config: names, types and ranges, and the constraints between the parts.

The components (dataset, space, training, scorer, algorithm, execution) are plain mappings here. Their own constructors
check them when `nasx.config.components` builds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nasx.config.describe import yaml_text
from nasx.config.settings import construct, convert, declared_parameters, settings
from nasx.errors import ConfigError, SettingError, did_you_mean
from nasx.trial import OBJECTIVES, Bounds

GROUPS = ("dataset", "space", "training", "scorer", "algorithm", "execution")  # chosen in a defaults list
ONLY_FOR_TRAINING = ("dataset", "training", "scorer")  # optional if a table replaces training
OF_THE_SEARCH = ("evaluations", "early_stopping")  # settings in the section algorithm that the search itself reads


MAX_NAME_BYTES = 255  # of a folder, on all usual file systems
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows


def _folder_name(name: str) -> str:
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"must be the name of a folder, without a path, got {name!r}")
    if RESERVED.fullmatch(name) or name.endswith((".", " ")) or not name.isprintable():
        raise ValueError(f"must be a name that every system accepts for a folder, got {name!r}")
    if (length := len(name.encode())) > MAX_NAME_BYTES:
        raise ValueError(f"must have at most {MAX_NAME_BYTES} bytes in UTF-8, got {length}")
    return name


def _known_metric(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"must name known metrics, got {name!r}. {did_you_mean(name, OBJECTIVES)}")
    return name


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError(f"must name at least one of {', '.join(OBJECTIVES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"must all be different, got {', '.join(names)}")
    return names


Metric = Annotated[str, AfterValidator(_known_metric)]
_OBJECTIVES = Field(description=f"a list of one or more of {', '.join(OBJECTIVES)}")


@settings
class Split:
    """Cut of the validation images from the training images."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]  # share of the images
    train_images: Annotated[int, Field(ge=1)] | None  # at most; None: all that remain
    validation_images: Annotated[int, Field(ge=1)] | None  # at most; None: the full share


@settings
class Search:
    """Settings of the search that do not depend on its algorithm."""

    replicates: Annotated[int, Field(ge=0)] = 0  # rounds that train networks on or near the front again
    max_hours: Annotated[float, Field(gt=0)] | None = None  # of one session; None: no limit
    max_gpu_hours: Annotated[float, Field(gt=0)] | None = None  # of all sessions: GPUs held by trials times hours
    patience: Annotated[int, Field(ge=1)] | None = None  # trainings in a row without growth of the hypervolume
    time_limit: Annotated[float, Field(gt=0)] | None  # seconds per trial; None: no limit
    stall_limit: Annotated[float, Field(gt=0)] | None = None  # seconds of a trial without an epoch or a score
    retries: Annotated[int, Field(ge=0)]  # further attempts for a trial whose failure may be a fault of the machine
    max_crashes: Annotated[int, Field(ge=1)] = 6  # crashes of the search during a trial before the trial has failed
    max_failure_share: Annotated[float, Field(gt=0, le=1)]  # of the latest trials, for one reason


@settings
class WarmStart:
    """Networks with which a search begins; `nasx search --warm-start` writes them."""

    run: str  # from whose front they are, for people
    genotypes: tuple[tuple[int, ...], ...]


@settings
class ExperimentConfig:
    """Checked config of an experiment."""

    name: Annotated[str, AfterValidator(_folder_name)]  # folder of the runs under runs_dir
    seed: Annotated[int, Field(ge=0)]
    runs_dir: Path
    objectives: Annotated[tuple[Metric, ...], AfterValidator(_different), _OBJECTIVES]
    constraints: Mapping[Metric, Bounds]
    split: Split
    search: Search
    space: Mapping[str, Any]  # this and each other component: _target_ and the arguments of its constructor
    algorithm: Mapping[str, Any]  # without evaluations and early_stopping, which belong to the search
    execution: Mapping[str, Any]
    dataset: Mapping[str, Any] = field(default_factory=dict)  # this and the next two: only if candidates are trained
    training: Mapping[str, Any] = field(default_factory=dict)
    scorer: Mapping[str, Any] = field(default_factory=dict)
    also_scored: Mapping[str, Mapping[str, Any]]  # further scorers, by a name that the user chooses
    evaluations: Annotated[int, Field(ge=1)]  # algorithm.evaluations: trainings, including repeated ones
    early_stopping: bool = False  # algorithm.early_stopping: stop trainings that cannot reach the front
    finetune_front: Annotated[float, Field(gt=0)] | None = None  # weight of the regularizer in fine-tuning; None: none
    logger: Mapping[str, Any] | None = None  # a component that logs the trials to a tracker
    evaluation: Mapping[str, Any] | None = None  # a component that looks up results; None: candidates are trained
    warm_start: WarmStart | None = None  # only in a run's config.yaml
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions and overrides; only in a run's config.yaml

    def __post_init__(self) -> None:
        if self.finetune_front is not None and self.evaluation is not None:
            raise SettingError("finetune_front", "needs trained networks, but candidates are looked up in a table")
        if self.dataset.get("corrections") is not None and self.evaluation is not None:
            raise SettingError("dataset.corrections", "needs images, but candidates are looked up in a table")
        for metric, bounds in self.constraints.items():
            _check_bounds(metric, bounds)


def read_config(config: Mapping[str, Any]) -> ExperimentConfig:
    """Return a composed config as a checked record. Raises ConfigError naming the first key that is wrong."""
    _check_components(config)
    algorithm = dict(config["algorithm"])
    if "evaluations" not in algorithm:
        raise ConfigError("algorithm.evaluations is missing: the number of candidates to evaluate, e.g. 64.")
    algorithm.setdefault("early_stopping", False)
    supplied = {}
    for name in OF_THE_SEARCH:
        if name in config:
            raise ConfigError(f"unknown key {name}. Did you mean algorithm.{name}?")
        annotation = declared_parameters(ExperimentConfig, "")[name].annotation
        supplied[name] = convert(algorithm.pop(name), annotation, f"algorithm.{name}")
    return construct(ExperimentConfig, {**config, "algorithm": algorithm}, supplied=supplied)


def _check_components(config: Mapping[str, Any]) -> None:
    """Raise ConfigError if a required component is missing, or if one is not a mapping."""
    for group in GROUPS:
        is_optional = group in ONLY_FOR_TRAINING and config.get("evaluation") is not None
        if config.get(group) is None and not is_optional:
            raise ConfigError(f"{group} is missing: choose one in the config's defaults list, as `- {group}: NAME`.")
    nodes = {group: config[group] for group in (*GROUPS, "evaluation", "logger") if config.get(group) is not None}
    also_scored = config.get("also_scored")
    if isinstance(also_scored, Mapping):
        nodes |= {f"also_scored.{name}": node for name, node in also_scored.items()}
    for key, node in nodes.items():
        if not isinstance(node, Mapping):
            raise ConfigError(f"{key} must be a component with its settings, got {yaml_text(node)}.")


def _check_bounds(metric: str, bounds: Bounds) -> None:
    """Raise SettingError if a bound is outside the range of its metric."""
    low, high = OBJECTIVES[metric].low, OBJECTIVES[metric].high
    for name, bound in (("min", bounds.min), ("max", bounds.max)):
        if bound is not None and not low <= bound <= high:
            raise SettingError(
                f"constraints.{metric}.{name}", f"must be in [{low:g}, {high:g}], the range of {metric}, got {bound:g}"
            )
