"""A run as it lies on disk: its trials, its data, and its networks rebuilt with their trained weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from nasx import config as configs
from nasx.data.images import SearchData
from nasx.errors import RunError
from nasx.evaluation import load_weights
from nasx.preparation import split_data
from nasx.protocols import Dataset, SearchSpace
from nasx.rundir import CONFIG, weights_file
from nasx.trial import Trial


def rebuild(run_dir: Path, trial: Trial) -> tuple[nn.Sequential, SearchData]:
    """The trained network of a trial, in evaluation mode on the CPU, and the data that it was trained and judged on.

    Raises RunError where its weights are not kept: only those of front members are.
    """
    file = weights_file(run_dir, trial.arch_id, trial.replicate)
    if not file.is_file():
        raise RunError(
            f"{run_dir} keeps no weights of {trial.arch_id}: only members of the front keep theirs. "
            "`nasx pareto` lists them."
        )
    experiment = configs.read(configs.load_resolved(run_dir / CONFIG))
    dataset: Dataset = configs.build(experiment.dataset, "dataset")
    space: SearchSpace = configs.build(experiment.space, "space")
    data = split_data(dataset, experiment)
    network = space.build(trial.genotype, input_shape=data.shape, n_classes=data.n_classes)
    load_weights(network, file)
    return network.eval(), data
