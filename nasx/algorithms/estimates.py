"""Estimates of the true costs of the networks of a run, from all trainings, with their uncertainty.

Fits the surrogate that guides a search (`nasx.algorithms.surrogate`) to the trials of a journal. Trainings are noisy,
and the best of many is a lucky one; the front of the estimates is not biased by this selection.
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
    """Noise of one training in one objective, and the data it was estimated from."""

    objective: str
    std: float  # of a single training around the true value of its network, in the objective's unit
    share: float  # of the variance of single trainings over the networks modeled, 0 to 1
    own_share: float  # share of the variance between networks that no smooth function of the genes explains
    length_scale: float  # of that function
    repeated: int  # networks trained more than once
    trainings: int  # complete trainings in all


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimated costs of the networks with a complete training, sorted by arch_id."""

    arch_ids: tuple[str, ...]
    counts: NDArray[np.int_]  # (n,) complete trainings
    observed: NDArray[np.float64]  # (n, n_objectives) means of their costs
    means: NDArray[np.float64]  # (n, n_objectives) estimates of the true costs; without a model, `observed`
    deviations: NDArray[np.float64]  # (n, n_objectives) of the true costs around `means`; NaN: no model
    front_probabilities: NDArray[np.float64]  # (n,) of being on the true front of these networks; NaN: no model
    front: NDArray[np.int_]  # indices of the networks on the front of `means`
    front_draws: NDArray[np.float64]  # (DRAWS, n_front, n_objectives) draws of their true costs; (0, ...): no model
    noise: tuple[Noise, ...] = field(default=())  # one per objective; empty: no model
    why_not: str = ""  # reason for which there is no model; empty if there is one


def estimate(trials: Sequence[Trial], objectives: Sequence[Objective], alleles: Sequence[Sequence[str]]) -> Estimates:
    """Return estimates from the complete trials among `trials`.

    Without a model, estimates are the observed means: if there are too few networks, or the noise is unknown because
    none was trained twice.

    Args:
        trials: trainings of any number of networks.
        objectives: n_objectives.
        alleles: names of each gene's alleles; empty: genes are categorical, with the alleles that occur.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.arch_id, t.replicate)):  # results must not depend on the order
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
    contenders = open_networks(means, np.sqrt(variances), most=None)  # includes the front
    keys = [genotypes[i] for i in contenders]
    draws = surrogate.draw_around(means[contenders], variances[contenders], keys, DRAWS)
    probabilities = np.zeros(len(means))
    probabilities[contenders] = front_probabilities(draws)
    return Estimates(
        arch_ids=tuple(groups),
        counts=counts,
        observed=observed,
        means=means,
        deviations=np.sqrt(variances),
        front_probabilities=probabilities,
        front=front,
        front_draws=draws[:, np.searchsorted(contenders, front)],
        noise=_noise(surrogate, counts, objectives),
    )


def _noise(surrogate: Surrogate, counts: NDArray[np.int_], objectives: Sequence[Objective]) -> tuple[Noise, ...]:
    """Return the noise of each objective by the models of a surrogate."""
    exact = [surrogate.objective_is_exact(i) for i in range(len(objectives))]
    return tuple(
        Noise(
            objective=objective.name,
            std=0.0 if is_exact else float(np.sqrt(model.noise)),
            share=0.0 if is_exact else model.noise_share,
            own_share=model.own_share,
            length_scale=model.length_scale,
            repeated=int((counts > 1).sum()),
            trainings=int(counts.sum()),
        )
        for objective, model, is_exact in zip(objectives, surrogate.models, exact, strict=True)
    )


def _no_model(counts: NDArray[np.int_], objectives: Sequence[Objective]) -> str:
    """Return the reason for which no model can be fitted; empty if one can."""
    if all(objective.is_exact for objective in objectives):
        return "no objective has noise"
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
        front_probabilities=np.full(len(observed), np.nan),
        front=front[np.lexsort(observed[front].T[::-1])],
        front_draws=np.empty((0, len(front), observed.shape[1])),
        why_not=why_not,
    )
