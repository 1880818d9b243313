"""Search by a short script of an experienced engineer: Optuna's NSGA-II, plain PyTorch, two processes.

The peer of `scripts.bench.whole_search`.

    python -m scripts.bench.optuna_script TASK.npz FRONT.json

Space, recipe, images and number of trainings are those of the nasx search; the networks are built by `nasx.spaces`, so
that they are the same. Everything else comes from the libraries: processes that share a study through Optuna's journal
file, a DataLoader, float32, the paper's activation score summed sample by sample. Disconnected cells and repeats of an
encoding are pruned, as Optuna's FAQ advises, and cost nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from torch import Tensor, nn

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData
from nasx.spaces.nb201 import NASBench201
from nasx.training.recipe import Recipe
from scripts.bench.plain_training import by_loader, tensors, train, validation_batches

STUDY = "nas"


@dataclass(frozen=True)
class Task:
    """Settings of the search, as plain values."""

    trainings: int
    population: int
    processes: int
    seed: int
    channels: int
    cells: int
    recipe: dict[str, Any]  # arguments of Recipe
    augmentation: dict[str, Any]  # arguments of Augmentation


def save_task(file: Path, task: Task, data: SearchData) -> None:
    """Save the task and its images in one file.

    Args:
        file: .npz.
        task: settings.
        data: images.
    """
    arrays: dict[str, Any] = {"mean": data.mean, "std": data.std, "classes": np.array(data.train.class_names)}
    for name, part in (("train", data.train), ("validation", data.validation)):
        arrays |= {f"{name}_images": part.images, f"{name}_labels": part.labels}
    np.savez(file, task=json.dumps(asdict(task)), **arrays)


def load_task(file: Path) -> tuple[Task, SearchData]:
    """Load the task and the images that `save_task` has saved."""
    with np.load(file) as arrays:
        names = tuple(map(str, arrays["classes"]))
        train, validation = (
            LabeledImages(arrays[f"{name}_images"], arrays[f"{name}_labels"], names) for name in ("train", "validation")
        )
        return Task(**json.loads(str(arrays["task"]))), SearchData(train, validation, arrays["mean"], arrays["std"])


def activation_score(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the paper's introspectability: mean cosine distance between the class means of all activations.

    Outputs of convolutions and activation layers are flattened, concatenated and summed sample by sample.

    Args:
        network: trained.
        images: (n, channels, height, width).
        labels: (n,).
    """
    maps: list[NDArray[np.float32]] = []
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.ReLU))]
    hooks = [m.register_forward_hook(lambda _m, _i, output: maps.append(output.flatten(1).numpy())) for m in layers]
    sums: dict[int, NDArray[np.float64]] = {}
    network.eval()
    with torch.no_grad():
        for batch, classes in zip(torch.split(images, 256), torch.split(labels, 256), strict=True):
            maps.clear()
            network(batch)
            for row, label in enumerate(classes.tolist()):
                vector = np.concatenate([m[row] for m in maps])
                if label in sums:
                    sums[label] += vector
                else:
                    sums[label] = vector.astype(np.float64)
    for hook in hooks:
        hook.remove()
    vectors = np.stack([total / np.linalg.norm(total) for total in sums.values()])  # the mean has the sum's direction
    distances = 1 - vectors @ vectors.T
    return float(distances[np.triu_indices(len(vectors), 1)].mean())


class Objective:
    """Trains and scores the network of an Optuna trial: (validation error, introspectability)."""

    def __init__(self, task: Task, data: SearchData) -> None:
        self.task = task
        self.data = data
        self.space = NASBench201(channels=task.channels, cells=task.cells)
        self.recipe = Recipe(**task.recipe)
        self.augmentation = Augmentation(**task.augmentation)
        self.images, self.labels = tensors(data.validation, data)

    def __call__(self, trial: optuna.Trial) -> tuple[float, float]:
        genotype = tuple(
            trial.suggest_categorical(f"edge{edge}", list(range(size)))
            for edge, size in enumerate(self.space.gene_sizes)
        )
        before = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
        if any(other.params == trial.params and other.number < trial.number for other in before):
            raise optuna.TrialPruned("trained before")
        if not self.space.is_connected(genotype):
            raise optuna.TrialPruned("no network")
        torch.manual_seed(self.task.seed + trial.number)
        network = self.space.build(genotype, input_shape=self.data.shape, n_classes=self.data.n_classes)
        batches = by_loader(self.data, self.augmentation, self.recipe.batch_size, self.task.seed + trial.number)
        error = train(network, batches, validation_batches(self.data), self.recipe)
        return error, self.score(network)

    def score(self, network: nn.Sequential) -> float:
        """Score a trained network."""
        return activation_score(network, self.images, self.labels)


def open_study(journal: Path, task: Task, seed: int) -> optuna.Study:
    """Open the study that all processes share.

    Args:
        journal: Optuna's journal file.
        task: settings.
        seed: of the sampler.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.NSGAIISampler(population_size=task.population, seed=seed)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        sampler=sampler,
        directions=["minimize", "maximize"],
        load_if_exists=True,
    )


def work(task_file: Path, journal: Path, process: int) -> None:
    """Train networks of the study in this process until enough are trained.

    Args:
        task_file: saved by `save_task`.
        journal: Optuna's journal file.
        process: number of this process, for its seed.
    """
    torch.set_num_threads(1)
    task, data = load_task(task_file)
    study = open_study(journal, task, seed=1000 * task.seed + process)
    enough = MaxTrialsCallback(task.trainings, states=(TrialState.COMPLETE,))
    study.optimize(Objective(task, data), callbacks=[enough])


def search(task_file: Path) -> list[tuple[float, float]]:
    """Run the processes and return the (error, introspectability) of every network trained."""
    task, _ = load_task(task_file)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.log"
        open_study(journal, task, task.seed)
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=work, args=(task_file, journal, n)) for n in range(task.processes)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise SystemExit(f"a process of the search ended with status {process.exitcode}")
        trials = open_study(journal, task, task.seed).get_trials(states=(TrialState.COMPLETE,))
    return [(trial.values[0], trial.values[1]) for trial in trials[: task.trainings]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.optuna_script")
    parser.add_argument("task", type=Path, help="saved by `scripts.bench.whole_search`")
    parser.add_argument("result", type=Path, help="JSON file for error and introspectability of every network")
    chosen = parser.parse_args()
    chosen.result.write_text(json.dumps(search(chosen.task)))


if __name__ == "__main__":
    main()
