"""Search problems with noisy results, and quality of the networks that a tool recommends.

The true costs of a network are known: the mean of the published values over all of its encodings in NAS-Bench-201
(5,043 networks; an encoding without a path from input to output is not a network, and its training fails). A training
returns the true costs plus Gaussian noise. The objectives are:

- error: 1 - mean accuracy;
- second: synthetic, like introspectability, or the exact number of parameters. The synthetic one is
  -0.6 rank-normal(error) + 0.6 rank-normal(smooth) + sqrt(0.28) own. Each term has mean 0 and variance 1 over all
  networks. smooth is a random linear and pairwise function of the counts of operations in the canonical cell; own is an
  independent normal effect of each network.

The variance of the noise is var (1 - ICC) / ICC, where ICC is the share of the variance of single trainings that is due
to the network. var is the variance of the true costs.

A few networks learn nothing. They would dominate the variance, and be the best in the second objective. Errors are
therefore capped at their 95 % quantile in both; the true error is not capped. The seeds of the synthetic objectives
were chosen, before any search, so that no such network is on the true front.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.spaces.nb201 import NASBench201
from nasx.trial import Genotype, derive_seed
from scripts.bench.tabular import DATASETS, REFERENCE

Costs = tuple[float, float]
Shown = Sequence[tuple[Genotype, Costs]]  # networks that a tool recommends, each with the costs that it reports

ERROR_PART, SMOOTH_PART, OWN_PART = -0.6, 0.6, math.sqrt(0.28)
CAP = 0.95  # quantile at which the errors are capped
WEIGHTS = np.arange(1, 20) / 20  # of the first objective, one for each user
AUGMENTATION = 0.05  # share of the weighted sum in the augmented Tchebycheff cost
SPACE = NASBench201()


@dataclass(frozen=True)
class Setting:
    """Settings of a problem."""

    label: str
    dataset: str = "CIFAR-10"
    icc_error: float = 0.8  # 1: no noise
    icc_second: float = 0.5
    second: Literal["synthetic", "parameters"] = "synthetic"
    seed: int = 0  # of the synthetic objective and, with the search's seed, of the noise


SETTINGS: Mapping[str, Setting] = {
    "cifar10": Setting("CIFAR-10, ICC .8 and .5"),
    "imagenet": Setting("ImageNet-16-120, ICC .8 and .5", dataset="ImageNet-16-120", seed=4),
    "more_noise": Setting("CIFAR-10, ICC .6 and .5", icc_error=0.6),
    "less_noise": Setting("CIFAR-10, ICC .95 and .7", icc_error=0.95, icc_second=0.7),
    "no_noise": Setting("CIFAR-10, no noise", icc_error=1, icc_second=1),
    "exact_second": Setting("CIFAR-10, ICC .8 and exact parameters", icc_second=1, second="parameters"),
}


@dataclass(frozen=True)
class Figures:
    """Quality of the networks that a tool recommends."""

    hypervolume: float  # of the true costs of the networks shown, as a share of that of the true front
    optimism: float  # hypervolume of the costs shown, as the same share, minus `hypervolume`
    regret: float  # mean true cost that users lose against the best network of the space
    shown: int  # number of networks
    optimal: int  # number of those that are on the true front


@dataclass(frozen=True, eq=False)
class NoisyProblem:
    """True costs of each network, by canonical genotype, and the noise of a training."""

    setting: Setting
    truth: Mapping[Genotype, Costs]
    noise: Costs  # standard deviations

    def train(self, genotype: Genotype, replicate: int, search_seed: int) -> Costs | None:
        """Return the costs of one training; None for a disconnected encoding.

        Every tool gets the same costs for the same replicate of the same network and search seed.

        Args:
            genotype: any encoding of the network.
            replicate: number of the training.
            search_seed: of the noise.
        """
        network = SPACE.canonical(genotype)
        if network not in self.truth:
            return None
        seed = derive_seed("noise", self.setting.seed, search_seed, replicate, *network)
        draws = np.random.default_rng(seed).standard_normal(2)
        error, second = np.array(self.truth[network]) + np.array(self.noise) * draws
        return float(error), float(second)

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """True costs of all networks, (n_networks, 2)."""
        return np.array(list(self.truth.values()))

    @cached_property
    def front(self) -> NDArray[np.float64]:
        """Costs of the true front, (n, 2)."""
        points = np.unique(self.costs, axis=0)
        return points[pareto.front_mask(points)]

    @cached_property
    def optimal(self) -> frozenset[Costs]:
        """Costs of the true front."""
        return frozenset((error, second) for error, second in self.front.tolist())

    @cached_property
    def best(self) -> NDArray[np.float64]:
        """Smallest true cost in the space for each user, (n_weights,)."""
        return tchebycheff(self.scaled(self.front)).min(axis=0)

    def scaled(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return costs in units of the true front: its smallest costs are 0 and its largest are 1."""
        return (costs - self.front.min(axis=0)) / np.ptp(self.front, axis=0)

    def figures(self, shown: Shown) -> Figures:
        """Measure a recommendation of one or more networks."""
        true = self.scaled(np.array([self.truth[genotype] for genotype, _ in shown]))
        reported = self.scaled(np.array([costs for _, costs in shown]))
        whole = pareto.hypervolume(self.scaled(self.front), REFERENCE)
        hypervolume = pareto.hypervolume(true, REFERENCE) / whole
        networks = {genotype for genotype, _ in shown}
        return Figures(
            hypervolume=hypervolume,
            optimism=pareto.hypervolume(reported, REFERENCE) / whole - hypervolume,
            regret=float((tchebycheff(true)[picks(reported), np.arange(len(WEIGHTS))] - self.best).mean()),
            shown=len(networks),
            optimal=sum(self.truth[genotype] in self.optimal for genotype in networks),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the setting, the true costs and the noise."""
        text = repr((asdict(self.setting), sorted(self.truth.items()), self.noise))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def tchebycheff(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the augmented Tchebycheff cost of each point (n, 2) for each user, (n, n_weights).

    max(w z1, (1 - w) z2) + 0.05 (w z1 + (1 - w) z2) for costs z.

    >>> tchebycheff(np.array([[1.0, 0.0]]))[0, :2].round(4).tolist()
    [0.0525, 0.105]
    """
    weighted = np.stack([WEIGHTS * costs[:, :1], (1 - WEIGHTS) * costs[:, 1:]])
    return np.asarray(weighted.max(axis=0) + AUGMENTATION * weighted.sum(axis=0))


def picks(reported: NDArray[np.float64]) -> NDArray[np.int_]:
    """Return the index of the network that each user picks by the costs reported, (n_weights,)."""
    return tchebycheff(reported).argmin(axis=0)


@cache
def read(table: Path, name: str) -> NoisyProblem:
    """Read a problem of `SETTINGS` from the published table: CSV with accuracies in percent."""
    setting = SETTINGS[name]
    errors = mean_errors(table, setting.dataset)
    error = np.array(list(errors.values()))
    if setting.second == "parameters":
        n_classes = DATASETS[setting.dataset][1]
        second = np.array([float(SPACE.parameters(network, n_classes=n_classes)) for network in errors])
    else:
        second = synthetic(list(errors), error, setting.seed)
    truth = dict(zip(errors, zip(error.tolist(), second.tolist(), strict=True), strict=True))
    spread = np.minimum(error, np.quantile(error, CAP)).std(), second.std()
    iccs = setting.icc_error, setting.icc_second
    noise = [float(deviation * math.sqrt((1 - icc) / icc)) for deviation, icc in zip(spread, iccs, strict=True)]
    return NoisyProblem(setting, truth, (noise[0], noise[1]))


def mean_errors(table: Path, dataset: str) -> dict[Genotype, float]:
    """Read the mean error of each network over its encodings, by canonical genotype in ascending order."""
    column = DATASETS[dataset][0]
    found = defaultdict(list)
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            genotype = SPACE.parse(row["ArchitectureString"])
            if SPACE.is_connected(genotype):
                found[SPACE.canonical(genotype)].append(1 - float(row[column]) / 100)
    return {network: float(np.mean(found[network])) for network in sorted(found)}


def synthetic(networks: Sequence[Genotype], error: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return the synthetic second cost of each network, (n,), as the module's docstring defines it.

    Args:
        networks: canonical genotypes.
        error: true errors, (n,).
        seed: of the smooth function and the independent effects.
    """
    own = [np.random.default_rng(derive_seed("own", seed, *network)).standard_normal() for network in networks]
    capped = np.minimum(rank_normal(error), NormalDist().inv_cdf(CAP))
    parts = [capped, rank_normal(smooth(np.array(networks), seed)), np.array(own)]
    weights = (ERROR_PART, SMOOTH_PART, OWN_PART)
    return np.asarray(sum(w * standardized(part) for w, part in zip(weights, parts, strict=True)))


def smooth(genes: NDArray[np.int_], seed: int) -> NDArray[np.float64]:
    """Return a random linear and pairwise function of the counts of operations, (n,), for genes (n, n_genes)."""
    counts = np.stack([(genes == allele).sum(axis=1) for allele in range(len(SPACE.alleles))], axis=1)
    first, second = np.triu_indices(counts.shape[1])
    features = np.hstack([counts, counts[:, first] * counts[:, second]]).astype(float)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return features @ np.random.default_rng(derive_seed("smooth", seed)).standard_normal(features.shape[1])


def rank_normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace values by the quantiles of the normal distribution at their ranks, (n,).

    >>> rank_normal(np.array([10.0, -5.0, 2.0])).round(2).tolist()
    [0.97, -0.97, 0.0]
    """
    quantiles = (values.argsort(kind="stable").argsort(kind="stable") + 0.5) / len(values)
    return np.array([NormalDist().inv_cdf(q) for q in quantiles.tolist()])


def standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale values to mean 0 and variance 1."""
    return np.asarray((values - values.mean()) / values.std())
