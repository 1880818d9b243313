"""A run as it lies on disk: its trials, its data, and its networks rebuilt with their trained weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasx.config.components import build
from nasx.config.compose import load_resolved
from nasx.config.schema import ExperimentConfig, read_config
from nasx.data.dataset import SearchData
from nasx.data.splits import split_indices
from nasx.errors import RunError
from nasx.evaluation.train_and_score import load_weights
from nasx.experiment import split_data
from nasx.protocols import Dataset, SearchSpace
from nasx.runs.directory import CONFIG, weights_file
from nasx.training.recipe import Recipe
from nasx.trial import Trial, derive_seed


@dataclass(frozen=True, eq=False)
class Materials:
    """What the trials of a run were made of, built anew from its config."""

    experiment: ExperimentConfig
    dataset: Dataset
    space: SearchSpace
    recipe: Recipe
    data: SearchData

    def untrained(self, trial: Trial) -> nn.Sequential:
        """The network of a trial as it was before its training."""
        with torch.random.fork_rng(devices=[]):  # initialisation draws from torch's generator; give it back as it was
            torch.manual_seed(trial.seed)
            return self.space.build(trial.genotype, input_shape=self.data.shape, n_classes=self.data.n_classes)

    def train_indices(self) -> NDArray[np.int64]:
        """Where each training image stands among the training images of the dataset, (n_train,)."""
        train, _ = split_indices(
            self.dataset.train(), **vars(self.experiment.split), seed=derive_seed(self.experiment.seed, "split")
        )
        return train


def materials(run_dir: Path) -> Materials:
    """Read a run's config, build what it names, and read and split its data."""
    experiment = read_config(load_resolved(run_dir / CONFIG))
    dataset: Dataset = build(experiment.dataset, "dataset")
    space: SearchSpace = build(experiment.space, "space")
    recipe: Recipe = build(experiment.training, "training")
    return Materials(experiment, dataset, space, recipe, split_data(dataset, experiment))


def check_weights(run_dir: Path, trial: Trial) -> None:
    """Raise RunError where the weights of a trial are not kept: only those of front members are."""
    if not weights_file(run_dir, trial.arch_id, trial.replicate).is_file():
        if load_resolved(run_dir / CONFIG).get("evaluation"):
            raise RunError(f"{run_dir} looked its candidates up in a table: there are no trained networks.")
        raise RunError(
            f"{run_dir} keeps no weights of {trial.arch_id}: only members of the front keep theirs. "
            "`nasx pareto` lists them."
        )


def trained(run_dir: Path, trial: Trial, made_of: Materials) -> nn.Sequential:
    """The trained network of a trial, in evaluation mode on the CPU. Raises RunError where its weights are not kept."""
    check_weights(run_dir, trial)
    network = made_of.untrained(trial)
    load_weights(network, weights_file(run_dir, trial.arch_id, trial.replicate))
    return network.eval()


def rebuild(run_dir: Path, trial: Trial) -> tuple[nn.Sequential, SearchData]:
    """The trained network of a trial, and the data that it was trained and judged on; see `trained`."""
    check_weights(run_dir, trial)
    made_of = materials(run_dir)
    return trained(run_dir, trial, made_of), made_of.data
