"""Estimates of true costs from all trainings in any order, or the reason for which there is no model."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from nasx import pareto
from nasx.algorithms.estimates import estimate
from nasx.algorithms.surrogate import MIN_NETWORKS
from nasx.reports.summary import summarize
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Reason, Trial, TrialStatus

NAMES = ("error", "introspectability")
BOTH = tuple(OBJECTIVES[name] for name in NAMES)
ALLELES = (("none", "skip", "conv", "pool"),) * 4


def truth(genotype):
    """Return true costs: an error and minus an introspectability, which conflict."""
    share = sum(genotype) / 12
    ripple = 0.05 * ((3 * genotype[0] + genotype[1]) % 4)
    return np.array([0.1 + 0.4 * share + ripple, -(0.2 + 0.5 * share - ripple)])


def trial(genotype, replicate, costs, **metrics):
    values = {"error": float(np.clip(costs[0], 0, 1)), "introspectability": float(np.clip(-costs[1], 0, 2)), **metrics}
    name = "".join(map(str, genotype))
    candidate = Candidate(0, genotype, 0, "random", replicate=replicate)
    return Trial(name, replicate, genotype, name, 0, Evaluation(TrialStatus.COMPLETE, metrics=values), candidate)


def simulated(seed=0, n=50, std=0.08, trainings=(1, 4)):
    """Return trainings of `n` networks, each trained `trainings[0]` to `trainings[1]` - 1 times."""
    rng = np.random.default_rng(seed)
    genotypes = [tuple(genotype) for genotype in np.ndindex(4, 4, 4, 4)]
    return [
        trial(genotypes[i], replicate, truth(genotypes[i]) + std * rng.normal(size=2))
        for i in rng.permutation(256)[:n].tolist()
        for replicate in range(rng.integers(*trainings))
    ]


def true_costs(arch_id):
    return truth(tuple(map(int, arch_id)))


def test_the_order_of_the_trials_does_not_matter():
    trials = simulated()
    one = estimate(trials, BOTH, ALLELES)
    for seed in range(3):
        shuffled = random.Random(seed).sample(trials, len(trials))
        other = estimate(shuffled, BOTH, ALLELES)
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), value, err_msg=name)


def test_networks_come_by_their_ids_with_the_means_of_their_complete_trainings():
    trials = simulated()
    failed = replace(trials[0], replicate=9, evaluation=Evaluation.failed(Reason.DIVERGED, ""))
    never = replace(trial((9, 9, 9, 9), 0, (0, 0)), evaluation=Evaluation.failed(Reason.DIVERGED, ""))

    found = estimate([never, *trials, failed], BOTH, ALLELES)

    assert list(found.arch_ids) == sorted({t.arch_id for t in trials})
    for place, arch_id in enumerate(found.arch_ids):
        own = [t.metrics for t in trials if t.arch_id == arch_id]
        assert found.counts[place] == len(own)
        expected = [np.mean([m["error"] for m in own]), -np.mean([m["introspectability"] for m in own])]
        assert found.observed[place] == pytest.approx(expected)


def test_the_front_is_that_of_the_estimates_best_first_objective_first():
    found = estimate(simulated(), BOTH, ALLELES)

    for place in found.front:
        better = (found.means <= found.means[place]).all(axis=1) & (found.means < found.means[place]).any(axis=1)
        assert not better.any()
    assert len(found.front) == sum(
        not ((found.means <= m).all(axis=1) & (found.means < m).any(axis=1)).any() for m in found.means
    )
    assert (np.diff(found.means[found.front, 0]) >= 0).all()
    assert found.front_draws.shape == (500, len(found.front), 2)


def test_the_front_of_estimates_is_nearer_to_the_truth_than_that_of_observed_means():
    corner, errors, promised = (1.0, 0.0), [], []
    for seed in range(8):
        found = estimate(simulated(seed), BOTH, ALLELES)
        real = np.array([true_costs(arch_id) for arch_id in found.arch_ids])
        lucky = np.flatnonzero(pareto.front_mask(found.observed))
        for shown, front in ((found.means, found.front), (found.observed, lucky)):
            errors.append(np.mean((shown[front] - real[front]) ** 2))
            promised.append(pareto.hypervolume(shown[front], corner) - pareto.hypervolume(real[front], corner))

    assert np.mean(errors[::2]) < 0.5 * np.mean(errors[1::2])
    assert abs(np.mean(promised[::2])) < 0.5 * np.mean(promised[1::2])


def test_the_truth_is_within_the_reported_uncertainty():
    inside = []
    for seed in range(4):
        found = estimate(simulated(seed), BOTH, ALLELES)
        real = np.array([true_costs(arch_id) for arch_id in found.arch_ids])
        inside.append(np.abs(found.means - real) <= 2 * found.deviations)
    assert np.mean(inside) > 0.85  # 95 % if the model were the truth


def test_probabilities_of_being_on_the_front_are_probabilities_and_at_least_one_network_is_on_it():
    found = estimate(simulated(), BOTH, ALLELES)

    assert ((found.front_probabilities >= 0) & (found.front_probabilities <= 1)).all()
    assert found.front_probabilities.sum() >= 1
    assert found.front_probabilities[found.front].min() > 0


def test_the_noise_and_its_sample_size_are_reported():
    trials = simulated(n=60, std=0.05)
    error, introspectability = estimate(trials, BOTH, ALLELES).noise

    assert (error.objective, introspectability.objective) == NAMES
    for noise in (error, introspectability):
        assert noise.std == pytest.approx(0.05, rel=0.35)
        assert 0 < noise.share < 1
        assert noise.trainings == len(trials)
        assert noise.repeated == len({t.arch_id for t in trials if t.replicate})


def test_an_exact_objective_has_no_noise_and_its_estimate_is_its_value():
    trials = [
        replace(t, evaluation=replace(t.evaluation, metrics={**t.metrics, "parameters": 1000.0 + sum(t.genotype)}))
        for t in simulated()
    ]

    found = estimate(trials, (OBJECTIVES["error"], OBJECTIVES["parameters"]), ALLELES)

    assert found.means[:, 1].tolist() == [1000.0 + sum(map(int, arch_id)) for arch_id in found.arch_ids]
    assert not found.deviations[:, 1].any()
    assert [noise.std > 0 for noise in found.noise] == [True, False]


def test_names_of_alleles_are_optional():
    trials = simulated()
    np.testing.assert_array_equal(estimate(trials, BOTH, ()).means, estimate(trials, BOTH, ALLELES).means)


@pytest.mark.parametrize(
    ("trials", "objectives", "why"),
    [
        (
            simulated(trainings=(1, 2)),
            NAMES,
            "fewer than two networks have been trained more than once, so that the noise of training is unknown",
        ),
        (simulated(n=3), NAMES, f"fewer than {MIN_NETWORKS} networks have been trained"),
        ([], NAMES, f"fewer than {MIN_NETWORKS} networks have been trained"),
        (
            [trial((0, 0, 0, a), 0, (0, 0), parameters=a, macs=3 - a) for a in range(4)],
            ("parameters", "macs"),
            "no objective has noise",
        ),
    ],
)
def test_without_a_model_values_are_observed_means_and_the_reason_is_reported(trials, objectives, why):
    found = estimate(trials, [OBJECTIVES[name] for name in objectives], ALLELES)
    summary = summarize(trials, objectives, n_classes=10, alleles=ALLELES)

    assert found.why_not == summary.why_observed == why
    assert found.noise == summary.noise == ()
    assert (found.means == found.observed).all()
    assert np.isnan(found.deviations).all()
    assert np.isnan(found.front_probabilities).all()
    assert found.front_draws.shape == (0, len(found.front), 2)
    assert not summary.is_estimated
    assert summary.certain_hypervolume is None


def test_with_a_model_there_is_no_reason_for_observed_means():
    summary = summarize(simulated(), NAMES, n_classes=10, alleles=ALLELES)

    assert summary.is_estimated
    assert summary.why_observed == ""
    assert 0 < summary.certain_hypervolume < summary.hypervolume


def test_an_estimate_is_never_outside_the_range_of_its_objective():
    """The model has no bounds, so that its means of errors near 0 may be negative."""
    rng = np.random.default_rng(0)
    trials = [
        trial(
            genotype,
            replicate,
            (0.002 * genotype[0] + 0.001 * abs(rng.normal()), -1 - 0.1 * genotype[1] + 0.2 * rng.normal()),
        )
        for genotype in {tuple(g) for g in rng.integers(0, 4, (60, 4)).tolist()}
        for replicate in range(2)
    ]
    trials += [trial((3, 3, 3, 9), 0, (0.0, -2.0)), trial((0, 0, 3, 9), 0, (0.0, 0.0))]

    summary = summarize(trials, NAMES, n_classes=10)

    for network in summary.architectures:
        assert 0 <= network.metrics["error"] <= 1
        assert 0 <= network.metrics["introspectability"] <= 2
        assert 0 <= network.front_probability <= 1
