"""Plan a search: derive the settings that are `auto` from the images and the budget, and estimate its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from nasx.config.auto import AUTO, EVALUATIONS, derived_settings
from nasx.config.components import build, load_target
from nasx.config.plain import Config, get, put
from nasx.data.folder import ImageFolder
from nasx.data.survey import survey_folder
from nasx.errors import ConfigError, ResourceError
from nasx.experiment import Experiment
from nasx.planning import rules
from nasx.planning.estimate import (
    LOOK_UP,
    Estimate,
    estimate,
    finetuning_seconds,
    replicates,
    seconds_per_training,
    span,
    start_seconds,
)
from nasx.planning.timing import Timer, Timing, time_training
from nasx.runs.stored_run import DEFAULT, ReadOptions

Notify = Callable[[str], None]
UNBALANCED: Final = 3.0  # images of the commonest class for each one of the rarest; above, the error misleads
NAMES: Final = {  # of the settings, in the lines that are printed
    "dataset.image_size": "image size",
    "dataset.grayscale": "grayscale",
    "training.batch_size": "batch",
    "training.epochs": "epochs",
    "space.channels": "channels",
    "space.cells": "cells",
    "algorithm.population_size": "population",
    "algorithm.evaluations": "evaluations",
}
# numbers with which the data can be read before the settings are derived
STAND_INS: Final = {
    "training.batch_size": 32,
    "training.epochs": 1,
    "space.channels": 8,
    "space.cells": 1,
    "algorithm.population_size": 8,
    "algorithm.evaluations": 1,
}


@dataclass
class _Draft:
    """A config in which settings are derived one after the other."""

    config: Config
    notify: Notify
    options: ReadOptions = DEFAULT
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, choice: rules.Choice) -> None:
        """Set a setting if it is `auto`, and report the reason."""
        if get(self.config, key) != AUTO:
            return
        self.config = put(self.config, key, choice.value)
        self.reasons[key] = choice.reason
        shown = {True: "yes", False: "no"}.get(choice.value, choice.value) if isinstance(choice.value, bool) else None
        self.notify(f"{NAMES[key]} {choice.value if shown is None else shown}: {choice.reason}")

    def experiment(self) -> Experiment:
        """Return the experiment of the config, with stand-ins for what is not derived yet."""
        config = self.config
        for key in derived_settings(config):
            config = put(config, key, STAND_INS[key])
        return Experiment.from_config(config, self.options)


def plan(
    config: Config, notify: Notify, timer: Timer = time_training, options: ReadOptions = DEFAULT
) -> tuple[Config, dict[str, str]]:
    """Return a config with numbers for all settings that are `auto`, and why each has its value, by full key.

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
    _derive_image_settings(draft, keys, hours)
    _derive_training(draft, draft.experiment(), hours)
    experiment = draft.experiment()
    if suggestion := unbalanced_suggestion(experiment):
        notify(suggestion)
    timing = timer(experiment)
    _derive_evaluations(draft, experiment, timing)
    notify(f"time: {estimate(draft.experiment(), timing)}")
    return draft.config, draft.reasons


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
    of_images = [key for key in keys if key.startswith("dataset.")]
    if of_images and not _is_folder(config):
        instead = "true or false" if of_images[0].endswith("grayscale") else "a number"
        raise ConfigError(f"{of_images[0]}=auto is known for folders of images only (dataset=folder): set {instead}.")
    if EVALUATIONS in keys and get(config, "search.max_hours") is None:
        raise ConfigError(f"{EVALUATIONS}=auto needs a budget: set search.max_hours, e.g. 1, or a number.")


def _is_folder(config: Mapping[str, Any]) -> bool:
    target = load_target(config["dataset"], "dataset") if config.get("dataset") else None
    return isinstance(target, type) and issubclass(target, ImageFolder)


def _derive_image_settings(draft: _Draft, keys: list[str], hours: float | None) -> None:
    of_images = [key for key in keys if key.startswith("dataset.")]
    if not of_images:
        return
    node = {key: value for key, value in draft.config["dataset"].items() if value != AUTO}
    survey = survey_folder(build(node, "dataset"))
    draft.set("dataset.image_size", rules.choose_image_size(survey, hours))
    draft.set("dataset.grayscale", rules.choose_grayscale(survey))


def _derive_training(draft: _Draft, experiment: Experiment, hours: float | None) -> None:
    if not any(key.startswith(("training.", "space.")) for key in derived_settings(draft.config)):
        return
    n_train = len(experiment.data.train)
    draft.set("training.batch_size", rules.choose_batch_size(n_train))
    draft.set("training.epochs", rules.choose_epochs(n_train, int(get(draft.config, "training.batch_size"))))
    channels, cells = rules.choose_network(n_train, int(get(draft.config, "training.epochs")), hours)
    draft.set("space.channels", channels)
    draft.set("space.cells", cells)


def _derive_evaluations(draft: _Draft, experiment: Experiment, timing: Timing) -> None:
    if get(draft.config, EVALUATIONS) == AUTO:
        hours = experiment.config.search.max_hours
        assert hours is not None  # checked before
        fitting = _fitting(experiment, timing, 3600 * hours)
        per_training = span(seconds_per_training(timing))
        if fitting < 1:
            raise ResourceError(
                f"search.max_hours={hours:g} is too short: one training takes about {per_training}, the start "
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
    draft.set("algorithm.population_size", rules.choose_population_size(int(get(draft.config, EVALUATIONS))))


def _fitting(experiment: Experiment, timing: Timing, seconds: float) -> int:
    """Return the evaluations that fit into the time, after the start, fine-tuning and replicates."""
    workers = 1 if experiment.execution.in_process else experiment.execution.plan.workers
    left = rules.MARGIN * seconds - start_seconds(experiment, timing) - finetuning_seconds(experiment, timing)
    return int(max(0.0, left) / seconds_per_training(timing) * workers) - replicates(experiment)


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
