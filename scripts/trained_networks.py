"""Trained networks on disk, so that measurements can be repeated and extended without training again.

A **study** trains architectures, drawn at random without equivalent encodings, with several seeds each, by the recipe
of a config. The name of its directory contains a hash of all settings that affect a training. Its layout is that of a
run: `config.yaml`, and under `archs/<arch_id>/` the weights and the record of each training. Records are written last
and atomically, so that a study can be killed at any time and resumes.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from nasx.config.components import load_target
from nasx.config.compose import compose
from nasx.config.identity import config_hash
from nasx.config.plain import read_plain, to_yaml
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.evaluation.train_and_score import better_than_chance, resolve_device
from nasx.evaluation.weights import load_weights, save_weights
from nasx.experiment import Experiment
from nasx.files import write_atomically
from nasx.networks.costs import count_macs, count_parameters
from nasx.protocols import SearchSpace
from nasx.runs.directory import CONFIG, arch_dir, weights_file
from nasx.training.fit import fit
from nasx.trial import Genotype, arch_id, derive_seed

# settings for trainings of about half a minute on one core; the digits' config needs no change
OVERRIDES = {
    "fashion_mnist": (
        "space.channels=8",
        "space.cells=1",
        "training.batch_size=128",
        "training.epochs=3",
        "split.train_images=8000",
        "split.validation_images=4000",
    ),
    "cifar10": (
        "space.channels=16",
        "space.cells=1",
        "training.batch_size=128",
        "training.epochs=8",
        "split.train_images=20000",
        "split.validation_images=5000",
    ),
}


@dataclass(frozen=True)
class Trained:
    """Record of one training in a study."""

    arch_id: str
    replicate: int
    genotype: Genotype
    architecture: str  # the space's string form
    seed: int
    error: float  # share of validation images misclassified
    train_error: float
    learned: bool  # True if the error is better than chance
    parameters: int
    macs: int  # multiply-accumulates of one forward pass of one image
    train_seconds: float  # CPU time; wall time on a GPU


@dataclass(frozen=True)
class Study:
    """Trained networks of one config in a directory."""

    folder: Path

    @classmethod
    def open(cls, cache_dir: Path, dataset: str, overrides: Sequence[str]) -> Study:
        """Open the study of a dataset's config; create it if it is new.

        Args:
            cache_dir: parent of the study's directory.
            dataset: name of a config; OVERRIDES shorten its trainings.
            overrides: further overrides.
        """
        return cls.of(cache_dir, compose(dataset, [*OVERRIDES.get(dataset, ()), *overrides]))

    @classmethod
    def of(cls, cache_dir: Path, config: Mapping[str, Any]) -> Study:
        """Open the study of a composed config, e.g. that of a run."""
        folder = cache_dir / f"{config['name']}_{config_hash(_training_settings(config))}"
        write_atomically(folder / CONFIG, to_yaml(config).encode())  # again: the data may have moved
        return cls(folder)

    @property
    def experiment(self) -> Experiment:
        """Data, space and recipe, read once per process."""
        return _experiment(self.folder)

    def record_file(self, arch: str, replicate: int) -> Path:
        return arch_dir(self.folder, arch) / f"record_{replicate}.json"

    def records(self, genotypes: Sequence[Genotype], seeds: int) -> list[list[Trained]]:
        """Return the records of each architecture that is trained with all `seeds` and learned the task with each."""
        space = self.experiment.space
        files = [[self.record_file(_id(space, g), r) for r in range(seeds)] for g in genotypes]
        found = [[_read(f) for f in row] for row in files if all(f.exists() for f in row)]
        return [row for row in found if all(network.learned for network in row)]

    def network(self, record: Trained) -> nn.Sequential:
        """Load a trained network, in evaluation mode, on the device."""
        data = self.experiment.data
        network = self.experiment.space.build(record.genotype, input_shape=data.shape, n_classes=data.n_classes)
        load_weights(network, weights_file(self.folder, record.arch_id, record.replicate))
        return network.eval().to(device())

    def untrained(self, genotype: Genotype, seed: int) -> nn.Sequential:
        return self.experiment.untrained(genotype, seed)


def draw_architectures(space: SearchSpace, n: int, seed: int) -> list[Genotype]:
    """Draw `n` distinct networks; all encodings have the same probability. A shorter list is the start of a longer one.

    Args:
        space: to draw from.
        n: number of networks.
        seed: of the drawing.

    >>> from nasx.spaces.nb201 import NASBench201
    >>> draw_architectures(NASBench201(), 3, seed=0) == draw_architectures(NASBench201(), 5, seed=0)[:3]
    True
    """
    generator = np.random.default_rng(derive_seed(seed, "architectures"))
    drawn: dict[Genotype, None] = {}
    while len(drawn) < n:
        genotype = tuple(int(generator.integers(size)) for size in space.gene_sizes)
        if space.is_connected(genotype):
            drawn.setdefault(space.canonical(genotype))
    return list(drawn)


def train(study: Study, genotypes: Sequence[Genotype], seeds: int, *, jobs: int, console: Console) -> None:
    """Train the networks that the study lacks.

    Args:
        study: to extend.
        genotypes: networks.
        seeds: trainings per network.
        jobs: processes, one thread each.
        console: for the progress bar.
    """
    space = study.experiment.space
    wanted = [(g, r) for g in genotypes for r in range(seeds) if not study.record_file(_id(space, g), r).exists()]
    for _ in in_processes(_train, [(study, *job) for job in wanted], jobs=jobs, title="training", console=console):
        pass


def in_processes(
    function: Any, arguments: Sequence[tuple[Any, ...]], *, jobs: int, title: str, console: Console
) -> Iterator[Any]:
    """Call a function in processes and yield its results in order of completion.

    Args:
        function: importable by name.
        arguments: of each call.
        jobs: processes, one thread each; 1: calls are made in this process.
        title: of the progress bar.
        console: for the progress bar.
    """
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(title, total=len(arguments))
        if jobs == 1 or len(arguments) < 2:
            _one_thread()
            for each in arguments:
                yield function(*each)
                progress.advance(task)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
            for future in as_completed([pool.submit(function, *each) for each in arguments]):
                yield future.result()
                progress.advance(task)


def device() -> torch.device:
    """Return the device for training and measuring: the GPU if there is one."""
    return resolve_device("auto")


def seconds() -> float:
    """Return the CPU time, which other load affects less; on a GPU, the wall time."""
    if device().type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def pixels_of(images: LabeledImages, data: SearchData) -> tuple[Tensor, Tensor]:
    """Return normalized images and their labels on the device."""
    return normalize(as_tensor(images.images).to(device()), data.mean, data.std), as_tensor(images.labels).to(device())


def _train(study: Study, genotype: Genotype, replicate: int) -> None:
    experiment = study.experiment
    space, data = experiment.space, experiment.data
    arch = _id(space, genotype)
    seed = derive_seed(experiment.config.seed, arch, replicate)
    network = study.untrained(genotype, seed)
    started = seconds()
    fitted = fit(
        network, data, experiment.recipe, augmentation=experiment.dataset.augmentation, seed=seed, device=device()
    )
    took = seconds() - started
    weights = weights_file(study.folder, arch, replicate)
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_weights(network, weights)
    record = Trained(
        arch_id=arch,
        replicate=replicate,
        genotype=genotype,
        architecture=space.describe(genotype),
        seed=seed,
        error=fitted.validation_error,
        train_error=fitted.history[-1]["train_error"],
        learned=bool(better_than_chance(fitted.validation_error, data.validation)),
        parameters=count_parameters(network),
        macs=count_macs(network, data.shape),
        train_seconds=took,
    )
    write_atomically(study.record_file(arch, replicate), json.dumps(asdict(record), indent=1).encode())


def _read(file: Path) -> Trained:
    values = json.loads(file.read_text())
    return Trained(**{**values, "genotype": tuple(values["genotype"])})


def _id(space: SearchSpace, genotype: Genotype) -> str:
    return arch_id(space.name, space.settings, genotype)


def _training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training that differ from their defaults, so that new settings change no hash."""
    shaping = {key: config[key] for key in ("seed", "split")}
    for group in ("dataset", "space", "training"):
        target = load_target(config[group], group)
        defaults = {name: parameter.default for name, parameter in signature(target).parameters.items()}
        settings = {key: value for key, value in config[group].items() if key not in ("root", "_target_")}
        shaping[group] = {
            key: value for key, value in settings.items() if key not in defaults or defaults[key] != value
        }
        shaping[group]["class"] = target.__name__  # type: ignore[attr-defined]  # without its module, which may move
    return shaping


@cache
def _experiment(folder: Path) -> Experiment:
    return Experiment.from_config(read_plain(folder / CONFIG))


def _one_thread() -> None:
    torch.set_num_threads(1)
