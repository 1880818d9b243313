"""Plan a search: derive the settings that are `auto` from the images and the budget, and estimate its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from nasx.backbones.pretrained import Pretrained
from nasx.config.auto import CHOSEN, EVALUATIONS, REPLICATES, derived_settings
from nasx.config.components import AUTO, TARGET, build, load_target
from nasx.config.plain import Config, get, put
from nasx.data.folder import ImageFolder
from nasx.data.survey import Survey, survey_folder
from nasx.errors import ConfigError, ResourceError
from nasx.experiment import Experiment
from nasx.planning import rules, transfer
from nasx.planning.estimate import (
    LOOK_UP,
    NEAR_FRONT,
    Estimate,
    estimate,
    finetuning_seconds,
    seconds_per_training,
    span,
    start_seconds,
)
from nasx.planning.feature_time import backbone_macs
from nasx.planning.timing import Timer, Timing, time_training
from nasx.runs.stored_run import DEFAULT, ReadOptions

Notify = Callable[[str], None]
UNBALANCED: Final = 3.0  # images of the commonest class for each one of the rarest; above, the error misleads
NAMES: Final = {  # of the settings, in the lines that are printed
    "space._target_": "space",
    "training._target_": "training",
    "dataset.interpolation": "interpolation",
    "dataset.augmentation.horizontal_flip": "horizontal flips",
    "dataset.augmentation.cutout": "cutout",
    "search.replicates": "replicates",
    "dataset.image_size": "image size",
    "dataset.grayscale": "grayscale",
    "training.batch_size": "batch",
    "training.epochs": "epochs",
    "space.channels": "channels",
    "space.cells": "cells",
    "algorithm.population_size": "population",
    "algorithm.evaluations": "evaluations",
}
# values with which settings are checked, and the data are read, before all settings are derived
STAND_INS: Final = {
    "dataset.image_size": 32,
    "dataset.grayscale": False,
    "dataset.interpolation": "bicubic",
    "dataset.augmentation.horizontal_flip": True,
    "dataset.augmentation.cutout": 0.0,
    "training.batch_size": 32,
    "training.epochs": 1,
    "space.channels": 8,
    "space.cells": 1,
    "search.replicates": 0,
    "algorithm.population_size": 8,
    "algorithm.evaluations": 1,
}
OF_THE_PICTURES: Final = ("dataset.image_size", "dataset.grayscale")  # settings that follow from a folder's pictures


@dataclass
class _Draft:
    """A config in which settings are derived one after the other."""

    config: Config
    notify: Notify
    options: ReadOptions = DEFAULT
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, choice: rules.Choice, *, is_shown: bool = True) -> None:
        """Set a setting if it is `auto`, and report the reason."""
        if get(self.config, key) == AUTO:
            self.config = put(self.config, key, choice.value)
            self.report(key, choice, is_shown=is_shown)

    def report(self, key: str, choice: rules.Choice, *, is_shown: bool = True) -> None:
        """Record the reason of a choice, and report it."""
        self.reasons[key] = choice.reason
        if not is_shown:
            return
        value = ("no", "yes")[choice.value] if isinstance(choice.value, bool) else choice.value
        self.notify(f"{NAMES[key]} {value}: {choice.reason}")

    def experiment(self) -> Experiment:
        """Return the experiment of the config, with stand-ins for what is not derived yet."""
        config = self.config
        for key in derived_settings(config):
            config = put(config, key, STAND_INS[key])
        return Experiment.from_config(config, self.options)


def plan(
    config: Config, notify: Notify, timer: Timer = time_training, options: ReadOptions = DEFAULT
) -> tuple[Config, dict[str, str]]:
    """Return a config with values for all settings that are `auto`, and why each has its value, by full key.

    Args:
        config: as `nasx.config.compose.compose` returns it.
        notify: receives each value with its reason, the estimated time, and advice, one line each.
        timer: returns the time of a training.
        options: receives the progress of the features that a backbone computes.

    Raises:
        ConfigError: if a setting cannot be derived in this config.
        DataError: if the data are missing or damaged.
        ResourceError: if a training cannot be timed, or takes longer than the budget.
    """
    keys = derived_settings(config)
    _check(config, keys)
    draft = _Draft(config, notify, options)
    hours = _hours(config)
    survey = _survey(config, keys)
    _choose_space(draft, survey)
    _ = draft.experiment().recipe  # a wrong value raises before a rule computes with it
    _derive_image_settings(draft, survey, hours)
    _derive_training(draft, draft.experiment(), hours)
    experiment = draft.experiment()
    if suggestion := unbalanced_suggestion(experiment):
        notify(suggestion)
    timing = timer(experiment)
    _derive_evaluations(draft, experiment, timing)
    notify(f"time: {estimate(draft.experiment(), timing)}")
    return draft.config, draft.reasons


def set_by_speed(config: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Return the names of the derived settings that depend on the speed of this machine, e.g. "evaluations"; or "".

    Args:
        config: after `plan`.
        reasons: of the derived settings, by full key.
    """
    keys = (EVALUATIONS, REPLICATES) if transfer.has_backbone(config) else (EVALUATIONS,)
    is_limited = get(config, "search.max_hours") is not None
    return " and ".join(NAMES[key] for key in keys if is_limited and key in reasons)


def describe_time(experiment: Experiment, timer: Timer = time_training) -> str:
    """Return the estimated time of an experiment in words, for `--dry-run`."""
    evaluations = experiment.config.evaluations
    if experiment.table is not None:
        return f"about {span(evaluations * LOOK_UP)}: results are looked up, nothing is trained"
    try:
        timing = timer(experiment)
    except ResourceError as error:
        return f"unknown: {error}"
    found = estimate(experiment, timing)
    return f"{found}{_too_short(found)}"


def _too_short(found: Estimate) -> str:
    """Return advice if not even one training fits into the limit; else ""."""
    if found.limit is None or found.per_training <= found.limit:
        return ""
    return (
        f". One training takes longer than the limit of {span(found.limit)}: raise search.max_hours, or use fewer "
        "images (split.train_images), fewer epochs (training.epochs) or smaller networks (space.cells)"
    )


def _hours(config: Mapping[str, Any]) -> float | None:
    hours = get(config, "search.max_hours")
    return float(hours) if isinstance(hours, int | float) and hours > 0 else None  # others are refused later


def _check(config: Mapping[str, Any], keys: list[str]) -> None:
    """Raise ConfigError for a setting that cannot be derived in this config."""
    if keys and config.get("evaluation") is not None:
        raise ConfigError(f"{keys[0]}=auto needs trainings, but results are looked up in a table: set a number.")
    of_images = [key for key in keys if key in OF_THE_PICTURES]
    if of_images and not _is_folder(config):
        instead = "true or false" if of_images[0].endswith("grayscale") else "a number"
        raise ConfigError(f"{of_images[0]}=auto is known for folders of images only (dataset=folder): set {instead}.")
    if EVALUATIONS in keys and get(config, "search.max_hours") is None:
        raise ConfigError(f"{EVALUATIONS}=auto needs a budget: set search.max_hours, e.g. 1, or a number.")


def _is_folder(config: Mapping[str, Any]) -> bool:
    target = load_target(config["dataset"], "dataset") if config.get("dataset") else None
    return isinstance(target, type) and issubclass(target, ImageFolder)


def _survey(config: Mapping[str, Any], keys: list[str]) -> Survey | None:
    """Return facts about the pictures of a folder if a setting depends on them; else None."""
    needed = {*OF_THE_PICTURES, f"space.{TARGET}"}
    if not needed & set(keys) or not _is_folder(config):
        return None
    own = {key: value for key, value in config["dataset"].items() if value != AUTO and key != "augmentation"}
    return survey_folder(build(own, "dataset"))


def _choose_space(draft: _Draft, survey: Survey | None) -> None:
    """Replace the groups that are `auto` by the files that suit the pictures and the installed packages."""
    for group in CHOSEN:
        key = f"{group}.{TARGET}"
        if get(draft.config, key) != AUTO:
            continue
        if group == "space":
            choice = transfer.choose_space(draft.config, survey)
        else:
            choice = transfer.choose_training(draft.config)
        draft.config = {**draft.config, group: transfer.resolved(draft.config, group, choice.value)}
        draft.report(key, choice, is_shown=group == "space")


def _derive_image_settings(draft: _Draft, survey: Survey | None, hours: float | None) -> None:
    pretrained = build(draft.config["space"], "space").pretrained() if transfer.has_backbone(draft.config) else None
    if survey is not None:
        if pretrained is None:
            draft.set("dataset.image_size", rules.choose_image_size(survey, hours))
        elif get(draft.config, "dataset.image_size") == AUTO:
            draft.set("dataset.image_size", _backbone_size(draft.config, pretrained, survey, hours))
        draft.set("dataset.grayscale", rules.choose_grayscale(survey))
    used = None if pretrained is None else pretrained.preprocessing.interpolation
    draft.set("dataset.interpolation", rules.choose_interpolation(used), is_shown=used is not None)
    for key, choice in transfer.choose_augmentation(draft.config).items():
        draft.set(key, choice, is_shown=used is not None)


def _backbone_size(config: Config, pretrained: Pretrained, survey: Survey, hours: float | None) -> rules.Choice:
    """Return the image size for a backbone, by the features that the search computes."""
    split = config["split"]
    n_validation = round(float(split["validation_fraction"]) * survey.n_images)
    n_train = min(survey.n_images - n_validation, split["train_images"] or survey.n_images)
    n_validation = min(n_validation, split["validation_images"] or n_validation)
    return rules.choose_backbone_size(
        survey,
        hours,
        int(get(config, "training.views", 1)) * n_train + n_validation,
        pretrained.preprocessing.size,
        backbone_macs(pretrained),
    )


def _derive_training(draft: _Draft, experiment: Experiment, hours: float | None) -> None:
    if not any(key.startswith(("training.", "space.")) for key in derived_settings(draft.config)):
        return
    n_train = len(experiment.data.train)
    has_backbone = transfer.has_backbone(draft.config)
    draft.set("training.batch_size", rules.choose_batch_size(n_train, has_backbone=has_backbone))
    batch_size = int(get(draft.config, "training.batch_size"))
    draft.set("training.epochs", rules.choose_epochs(n_train, batch_size, has_backbone=has_backbone))
    channels, cells = rules.choose_network(n_train, int(get(draft.config, "training.epochs")), hours)
    draft.set("space.channels", channels)
    draft.set("space.cells", cells)


def _derive_evaluations(draft: _Draft, experiment: Experiment, timing: Timing) -> None:
    given = get(draft.config, EVALUATIONS)
    hours = _hours(draft.config)
    fitting = None if hours is None else _fitting(experiment, timing, 3600 * hours)
    choice = rules.choose_replicates(
        fitting,
        None if given == AUTO else int(given),
        NEAR_FRONT,
        has_backbone=transfer.has_backbone(draft.config),
    )
    draft.set(REPLICATES, choice, is_shown=bool(choice.value))
    if given == AUTO:
        assert hours is not None  # checked before
        assert fitting is not None
        left = fitting - NEAR_FRONT * int(get(draft.config, REPLICATES))
        _derive_number(draft, experiment, timing, left, hours)
    draft.set("algorithm.population_size", rules.choose_population_size(int(get(draft.config, EVALUATIONS))))


def _derive_number(draft: _Draft, experiment: Experiment, timing: Timing, fitting: int, hours: float) -> None:
    """Derive the number of evaluations from those that fit into the time."""
    per_training = span(seconds_per_training(experiment, timing))
    if fitting < 1:
        features = f"the features {span(timing.features.seconds)}, " if timing.features.n_images else ""
        raise ResourceError(
            f"search.max_hours={hours:g} is too short: {features}one training takes about {per_training}, the start "
            f"{span(start_seconds(experiment, timing))}. Set a longer time, or fewer images as in "
            "split.train_images=1000."
        )
    time = f"{hours:g} h, at {per_training} per training; another machine would have another number"
    draft.set(EVALUATIONS, rules.choose_evaluations(fitting, len(experiment.data.validation), time))
    if fitting < rules.FEWEST:
        draft.notify(
            f"few evaluations: a search needs about {rules.FEWEST} to find a front. Set a longer "
            "search.max_hours, or fewer images by split.train_images."
        )


def _fitting(experiment: Experiment, timing: Timing, seconds: float) -> int:
    """Return the trainings that fit into the time, after features, start and fine-tuning."""
    workers = 1 if experiment.execution.in_process else experiment.execution.plan.workers
    before = timing.features.seconds + start_seconds(experiment, timing)
    left = rules.MARGIN * seconds - before - finetuning_seconds(experiment, timing)
    return int(max(0.0, left) / seconds_per_training(experiment, timing) * workers)


def unbalanced_suggestion(experiment: Experiment) -> str:
    """Return a suggestion in one line if classes have very different numbers of images; else ""."""
    if experiment.table is not None or "macro_error" in experiment.config.objectives:
        return ""
    labels = np.concatenate([experiment.data.train.labels, experiment.data.validation.labels])
    counts = np.bincount(labels, minlength=experiment.n_classes)
    if (ratio := counts.max() / max(1, counts.min())) <= UNBALANCED:
        return ""
    names = experiment.class_names
    return (
        f"unbalanced classes: {ratio:.0f} images of {names[int(counts.argmax())]!r} for each one of "
        f"{names[int(counts.argmin())]!r}. The error hardly counts rare classes: consider "
        "objectives=[macro_error,introspectability] and training.class_weights=true."
    )
