"""Checks of an experiment before its first training, and whether its search repeats from its seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from nasx.errors import ConfigError, SettingError
from nasx.protocols import ChecksNetworks, ReportsOrderDependence, Scorer, SearchAlgorithm, SearchSpace
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

    from nasx.experiment.experiment import Experiment

SAMPLED: Final = 8  # random networks at most that scorers are checked with, before the first training
SAMPLED_IMAGES: Final = 4
MAX_DRAWN: Final = 1000  # genotypes that are drawn for them


def check_scorers(
    scorers: Mapping[str, Scorer],
    space: SearchSpace,
    shape: tuple[int, int, int],
    build: Callable[[Genotype], nn.Sequential],
) -> None:
    """Raise ConfigError if a scorer fits none of a few random networks: every trial would fail.

    Args:
        scorers: by key of the config.
        space: of the networks.
        shape: of the images, (channels, height, width).
        build: returns an untrained network.
    """
    checked = {key: scorer for key, scorer in scorers.items() if isinstance(scorer, ChecksNetworks)}
    problem: ConfigError | None = None
    for genotype in _samples(space) if checked else ():
        try:
            network = build(genotype)
        except Exception:  # of a user's space: the trials report it, with its traceback
            return
        if (problem := _misfit(checked, space, network, shape)) is None:
            return
    if problem is not None:
        raise problem


def _misfit(
    scorers: Mapping[str, ChecksNetworks], space: SearchSpace, network: nn.Sequential, shape: tuple[int, int, int]
) -> ConfigError | None:
    """Return the error of the first scorer that does not fit a network; None if all do."""
    import torch  # it takes seconds to load

    images = torch.randn(SAMPLED_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    for key, scorer in scorers.items():
        try:
            scorer.check_network(network, images)
        except SettingError as problem:
            return ConfigError(f"{key} does not fit the networks of the space {space.name}: {problem}")
    return None


def _samples(space: SearchSpace) -> list[Genotype]:
    """Return some random connected genotypes, the same ones each time; none if it is hard to find one."""
    numbers = random.Random(0)
    drawn = (tuple(numbers.randrange(size) for size in space.gene_sizes) for _ in range(MAX_DRAWN))
    return list(islice((space.canonical(g) for g in drawn if space.is_connected(g)), SAMPLED))


def repeatability(algorithm: SearchAlgorithm, workers: int, measured: bool = False) -> str:
    """Return a sentence if the search will not repeat from its seed, with the setting that makes it; else "".

    Args:
        algorithm: of the search.
        workers: trials at a time.
        measured: whether results depend on measured times.
    """
    if measured:
        return (
            "latency is measured: it depends on the machine and on what else runs on it. The search resumes exactly, "
            "but does not repeat from its seed; the objective macs does."
        )
    if not (isinstance(algorithm, ReportsOrderDependence) and algorithm.depends_on_order):
        return ""
    return (
        f"{workers} workers: networks are bred in the order in which trainings end (free running). The search resumes "
        "exactly, but does not repeat from its seed; algorithm.mode=steady_state does."
    )


def check_gpu_budget(experiment: Experiment) -> None:
    """Raise ConfigError if GPU-hours are to be counted and trials run on the CPU."""
    if experiment.config.search.max_gpu_hours is not None and not experiment.execution.plan.gpus:
        raise ConfigError(
            "search.max_gpu_hours counts the time that trials hold GPUs, but these trials run on the CPU: set "
            "search.max_hours instead, or let them use GPUs by execution.device and execution.gpus_per_trial."
        )
