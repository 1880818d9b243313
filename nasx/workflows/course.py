"""Everything that a final training is made of, built from the run's config and what the user asks for on top."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasx.config.components import build
from nasx.config.compose import choice, load_resolved
from nasx.config.schema import ExperimentConfig, read_config
from nasx.data.dataset import SearchData
from nasx.data.splits import split
from nasx.errors import ConfigError, RunError, SettingError
from nasx.evaluation.train_and_score import EvaluationSpec
from nasx.experiment import score_seed
from nasx.protocols import Dataset, SearchSpace
from nasx.runs.directory import CONFIG
from nasx.training.recipe import Recipe
from nasx.trial import Genotype, derive_seed

RECIPE = "final"  # the choice of the group `training` where none is named
CALIBRATION = 0.05  # share of the images that calibrates the confidence
CHANGEABLE = ("training", "dataset", "execution")  # what a final training may set otherwise than the search
PLACES = ("root", "file", "cache")  # settings of a dataset that say where it lies


@dataclass(frozen=True, eq=False)
class Course:
    """How the networks of a run are finally trained. Training and validation images of the search are trained on."""

    experiment: ExperimentConfig
    dataset: Dataset
    space: SearchSpace
    recipe: Recipe
    data: SearchData  # its validation images are the calibration images
    width: int  # times as many filters as in the search
    facts: Mapping[str, Any]  # what the result depends on: plain JSON

    @property
    def identity(self) -> str:
        """A hash of the facts."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def scoring(self) -> EvaluationSpec:
        """How the networks are scored: as in the search."""
        also = self.experiment.also_scored.items()
        return EvaluationSpec(
            space=self.space,
            recipe=self.recipe,
            augmentation=self.dataset.augmentation,
            scorer=build(self.experiment.scorer, "scorer"),
            also_scored=tuple(build(node, f"also_scored.{name}") for name, node in also),
            score_seed=score_seed(self.experiment),
        )

    def seed(self, arch_id: str, number: int) -> int:
        """The seed of a network's training of that number."""
        return derive_seed(self.experiment.seed, arch_id, "final", number)

    def untrained(self, genotype: Genotype, seed: int) -> nn.Sequential:
        """The network before its training."""
        with torch.random.fork_rng(devices=[]):  # initialisation draws from torch's generator; give it back as it was
            torch.manual_seed(seed)
            return self.space.build(genotype, input_shape=self.data.shape, n_classes=self.data.n_classes)


def plan(run_dir: Path, overrides: Sequence[str] = (), *, width: int = 1, calibration: float = CALIBRATION) -> Course:
    """The course of a run's final trainings; `overrides` are of training, dataset and execution alone.

    Reads the training images. Raises ConfigError, SettingError, DataError or RunError.
    """
    if not 0 < calibration < 1:
        raise SettingError("--calibration", f"must be a share of the images between 0 and 1, got {calibration:g}.")
    own = [o for o in overrides if _group(o) == "training"]
    others = [o for o in overrides if _group(o) != "training"]
    if strangers := [o for o in others if _group(o) not in CHANGEABLE]:
        raise ConfigError(f"{strangers[0]}: a final training may change {', '.join(CHANGEABLE)} alone.")
    config = load_resolved(run_dir / CONFIG, others)
    experiment = read_config(config)
    if experiment.evaluation is not None:
        raise RunError(f"{run_dir} looked its candidates up in a table: it has no dataset to train on.")
    space_node = widened(experiment.space, width)
    dataset: Dataset = build(experiment.dataset, "dataset")
    recipe: Recipe = build(training_node(own), "training")
    try:
        seed = derive_seed(experiment.seed, "calibration")
        data = split(dataset.train(), validation_fraction=calibration, seed=seed)
    except SettingError as exc:
        raise SettingError("--calibration", exc.problem + ".") from exc
    facts = {
        "space": dict(space_node),
        "dataset": {name: value for name, value in experiment.dataset.items() if name not in PLACES},
        "training": asdict(recipe),
        "width": width,
        "calibration": calibration,
        "seed": experiment.seed,
    }
    return Course(experiment, dataset, build(space_node, "space"), recipe, data, width, facts)


def training_node(overrides: Sequence[str]) -> Mapping[str, Any]:
    """The recipe that `training=NAME` chooses, `final` where it is not given, with `training.key=value` on top."""
    names = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "training"]
    settings = [o for o in overrides if o.partition("=")[0] != "training"]
    return choice("training", names[-1] if names else RECIPE, settings)


def widened(space: Mapping[str, Any], width: int) -> Mapping[str, Any]:
    """The config of a space with `width` times as many filters. Raises SettingError where it has no such setting."""
    if width < 1:
        raise SettingError("--width", f"must be at least 1, got {width}.")
    if width > 1 and not isinstance(space.get("channels"), int):
        raise SettingError("--width", "multiplies space.channels, which the space of this run does not have.")
    return {**space, "channels": width * space["channels"]} if width > 1 else space


def _group(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition(".")[0]
