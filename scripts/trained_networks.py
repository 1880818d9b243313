"""Trained networks kept on disk: what is measured on them can be repeated and extended without training again.

A **study** trains architectures, drawn uniformly from the distinct networks of the space, with several seeds each, by
the recipe of a config. Its directory is named after a hash of all settings that shape a network and laid out like a
run's: `config.yaml`, and under `archs/<arch_id>/` the weights and the record of each training. Records are written
last and whole, so that a study may be killed at any time and goes on where it stopped.
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
from nasx.config.compose import compose, to_yaml
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.evaluation.train_and_score import better_than_chance, load_weights, resolve_device, save_weights
from nasx.experiment import Experiment
from nasx.files import write_atomically
from nasx.networks.costs import count_macs, count_parameters
from nasx.protocols import SearchSpace
from nasx.runs.directory import CONFIG, arch_dir, weights_file
from nasx.training.fit import fit
from nasx.trial import Genotype, arch_id, derive_seed
from nasx.workflows.search import config_hash

# what makes a network a matter of half a minute on one core; the digits' config does so already
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
    """One network, trained: its record in a study."""

    arch_id: str
    replicate: int
    genotype: Genotype
    architecture: str  # the space's string form
    seed: int
    error: float  # share of validation images misclassified
    train_error: float
    learned: bool  # whether the error is better than chance
    parameters: int
    macs: int  # multiply-accumulates of one forward pass of one image
    train_seconds: float  # of processor time; of the clock where a GPU trains


@dataclass(frozen=True)
class Study:
    """Architectures and seeds to be trained, and where they are kept."""

    folder: Path

    @classmethod
    def open(cls, cache_dir: Path, dataset: str, overrides: Sequence[str]) -> Study:
        """The study of a dataset's config, made quick by OVERRIDES, below `cache_dir`; made where it is new."""
        return cls.of(cache_dir, compose(dataset, [*OVERRIDES.get(dataset, ()), *overrides]))

    @classmethod
    def of(cls, cache_dir: Path, config: Mapping[str, Any]) -> Study:
        """The study of a composed config, e.g. a run's."""
        folder = cache_dir / f"{config['name']}_{config_hash(_what_shapes_networks(config))}"
        write_atomically(folder / CONFIG, to_yaml(config).encode())  # anew: the data may have moved
        return cls(folder)

    @property
    def experiment(self) -> Experiment:
        """Data, space and recipe, read once per process."""
        return _experiment(self.folder)

    def record_file(self, arch: str, replicate: int) -> Path:
        return arch_dir(self.folder, arch) / f"record_{replicate}.json"

    def records(self, genotypes: Sequence[Genotype], seeds: int) -> list[list[Trained]]:
        """What has been trained: for each architecture that learned the task with all `seeds`, their records."""
        space = self.experiment.space
        files = [[self.record_file(_id(space, g), r) for r in range(seeds)] for g in genotypes]
        found = [[_read(f) for f in row] for row in files if all(f.exists() for f in row)]
        return [row for row in found if all(network.learned for network in row)]

    def network(self, record: Trained) -> nn.Sequential:
        """A trained network, in evaluation mode, on the device."""
        data = self.experiment.data
        network = self.experiment.space.build(record.genotype, input_shape=data.shape, n_classes=data.n_classes)
        load_weights(network, weights_file(self.folder, record.arch_id, record.replicate))
        return network.eval().to(device())

    def untrained(self, genotype: Genotype, seed: int) -> nn.Sequential:
        return self.experiment.untrained(genotype, seed)


def draw_architectures(space: SearchSpace, n: int, seed: int) -> list[Genotype]:
    """`n` distinct networks, each encoding as likely as another; a longer list begins with a shorter one.

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
    """Train what the study lacks, one process a job and one thread a process."""
    space = study.experiment.space
    wanted = [(g, r) for g in genotypes for r in range(seeds) if not study.record_file(_id(space, g), r).exists()]
    for _ in in_processes(_train, [(study, *job) for job in wanted], jobs=jobs, title="training", console=console):
        pass


def in_processes(
    function: Any, arguments: Sequence[tuple[Any, ...]], *, jobs: int, title: str, console: Console
) -> Iterator[Any]:
    """The results of `function` over the arguments as they come, with a progress bar; in process for one job."""
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
    """Where networks are trained and measured: the GPU, if there is one."""
    return resolve_device("auto")


def seconds() -> float:
    """A clock: of the processor, so that a busy machine does not tell; the wall's where a GPU does the work."""
    if device().type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def pixels_of(images: LabeledImages, data: SearchData) -> tuple[Tensor, Tensor]:
    """Images as a network takes them, and their labels, on the device."""
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
    save_weights(network, weights_file(study.folder, arch, replicate))
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


def _what_shapes_networks(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings behind a training that are not at their defaults, so that a new setting orphans no study."""
    shaping = {key: config[key] for key in ("seed", "split")}
    for group in ("dataset", "space", "training"):
        target = load_target(config[group], group)
        defaults = {name: parameter.default for name, parameter in signature(target).parameters.items()}
        settings = {key: value for key, value in config[group].items() if key not in ("root", "_target_")}
        shaping[group] = {
            key: value for key, value in settings.items() if key not in defaults or defaults[key] != value
        }
        shaping[group]["class"] = target.__name__  # type: ignore[attr-defined]  # wherever it lives
    return shaping


@cache
def _experiment(folder: Path) -> Experiment:
    return Experiment.of_run(folder)


def _one_thread() -> None:
    torch.set_num_threads(1)
