"""Estimates of the true costs of the networks of a run, from all trainings, with their uncertainty.

The same surrogate that guides a search (`nasx.algorithms.surrogate`), fitted to the trials of a journal. A training is
a noisy answer, and the best of many answers is a lucky one: the front of estimates keeps what it promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.algorithms.gaussian_process import Features
from nasx.algorithms.surrogate import MIN_NETWORKS, Surrogate, front_probabilities, open_networks
from nasx.trial import Objective, Trial, cost_matrix

DRAWS = 500  # of the posterior


@dataclass(frozen=True)
class Noise:
    """The noise of one training in one objective, and what it was estimated from."""

    objective: str
    std: float  # of a single training around the true value of its network, in the objective's unit
    share: float  # of the variance of single trainings over the networks modeled, 0 to 1
    own_share: float  # of the variance between networks that no smooth function of the genes explains
    length_scale: float  # of that function
    repeated: int  # networks trained more than once
    trainings: int  # complete trainings in all


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimated costs of the networks that have a complete training, in the order of their ids."""

    arch_ids: tuple[str, ...]
    counts: NDArray[np.int_]  # (n,) complete trainings
    observed: NDArray[np.float64]  # (n, n_objectives) means of their costs
    means: NDArray[np.float64]  # (n, n_objectives) estimates of the true costs; without a model, the observed means
    deviations: NDArray[np.float64]  # (n, n_objectives) of the true costs around them; NaN: not known
    front_chances: NDArray[np.float64]  # (n,) probability of being on the true front of these networks; NaN: not known
    front: NDArray[np.int_]  # places of the networks on the front of `means`
    front_draws: NDArray[np.float64]  # (DRAWS, n_front, n_objectives) of their true costs; (0, ...): not known
    noise: tuple[Noise, ...] = field(default=())  # one an objective; empty: no model
    why_not: str = ""  # why there is no model, in words; empty if there is one


def estimate(trials: Sequence[Trial], objectives: Sequence[Objective], alleles: Sequence[Sequence[str]]) -> Estimates:
    """The estimates for the complete trials among `trials`.

    Without a model (too few networks, or none trained twice, so that the noise is unknown) they are the observed means.

    Args:
        trials: trainings of any number of networks.
        objectives: n_objectives.
        alleles: names of each gene's alleles; empty: genes are categorical, as many alleles as occur.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.arch_id, t.replicate)):  # the same figures in whatever order they come
        if trial.is_complete:
            groups.setdefault(trial.arch_id, []).append(trial)
    costs = [cost_matrix(own, objectives) for own in groups.values()]
    counts = np.array([len(own) for own in groups.values()], dtype=int)
    observed = np.array([own.mean(axis=0) for own in costs]).reshape(-1, len(objectives))
    if why_not := _no_model(counts, objectives):
        return _as_observed(tuple(groups), counts, observed, why_not)
    genotypes = [own[0].genotype for own in groups.values()]
    features = Features(alleles) if alleles else Features.of_sizes((np.max(genotypes, axis=0) + 1).tolist())
    surrogate = Surrogate(features, [objective.is_exact for objective in objectives])
    surrogate.learn_all(genotypes, costs)
    means, variances = surrogate.estimates(genotypes, costs)
    front = np.flatnonzero(pareto.front_mask(means))
    front = front[np.lexsort(means[front].T[::-1])]
    contenders = open_networks(means, np.sqrt(variances), most=None)  # the front among them
    keys = [genotypes[i] for i in contenders]
    draws = surrogate.draw_around(means[contenders], variances[contenders], keys, DRAWS)
    chances = np.zeros(len(means))
    chances[contenders] = front_probabilities(draws)
    repeated = int((counts > 1).sum())
    noise = tuple(
        Noise(
            objective.name,
            0.0 if surrogate.objective_is_exact(i) else float(np.sqrt(model.noise)),
            0.0 if surrogate.objective_is_exact(i) else model.noise_share,
            model.own_share,
            model.length_scale,
            repeated,
            int(counts.sum()),
        )
        for i, (objective, model) in enumerate(zip(objectives, surrogate.models, strict=True))
    )
    return Estimates(
        arch_ids=tuple(groups),
        counts=counts,
        observed=observed,
        means=means,
        deviations=np.sqrt(variances),
        front_chances=chances,
        front=front,
        front_draws=draws[:, np.searchsorted(contenders, front)],
        noise=noise,
    )


def _no_model(counts: NDArray[np.int_], objectives: Sequence[Objective]) -> str:
    """Why no model can be fitted, in words; empty if one can."""
    if all(objective.is_exact for objective in objectives):
        return "every objective is counted, and exact"
    if len(counts) < MIN_NETWORKS:
        return f"fewer than {MIN_NETWORKS} networks have been trained"
    if (counts > 1).sum() < 2:
        return "fewer than two networks have been trained more than once, so that the noise of training is unknown"
    return ""


def _as_observed(
    arch_ids: tuple[str, ...], counts: NDArray[np.int_], observed: NDArray[np.float64], why_not: str
) -> Estimates:
    front = np.flatnonzero(pareto.front_mask(observed))
    unknown = np.full(observed.shape, np.nan)
    return Estimates(
        arch_ids=arch_ids,
        counts=counts,
        observed=observed,
        means=observed,
        deviations=unknown,
        front_chances=np.full(len(observed), np.nan),
        front=front[np.lexsort(observed[front].T[::-1])],
        front_draws=np.empty((0, len(front), observed.shape[1])),
        why_not=why_not,
    )
