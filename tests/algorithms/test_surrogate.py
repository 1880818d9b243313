"""The surrogate against a dense Gaussian process on single trainings; the networks that it holds, draws and drops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_info

from nasx import pareto
from nasx.algorithms import gaussian_process
from nasx.algorithms import surrogate as module
from nasx.algorithms.gaussian_process import (
    COUNTS_WEIGHT,
    LENGTH_SCALES,
    NOISE_SHARES,
    OWN_SHARES,
    Features,
    Hyperparameters,
    Measurements,
    fit,
)
from nasx.algorithms.surrogate import Surrogate, front_probabilities, inlier_indices

SIZES = (4,) * 6
FEATURES = Features.of_sizes(SIZES)
places = st.builds(
    Hyperparameters,
    st.integers(0, len(LENGTH_SCALES) - 1),
    st.integers(0, len(OWN_SHARES) - 1),
    st.integers(0, len(NOISE_SHARES) - 1),
)


def networks(n, seed=0):
    """Return different genotypes, (n, 6)."""
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(0, 4, (3 * n, 6)), axis=0)[rng.permutation(2 * n)[:n]]


def correlation(a, b, length_scale):
    """Return the Matern 5/2 correlations, from the definition."""
    scaled = np.sqrt(5) * np.linalg.norm(a[:, None] - b[None], axis=2) / length_scale
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


class Trainings:
    """Single trainings of 25 networks, one to four of each."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.genotypes = networks(25, seed)
        self.rows = FEATURES(self.genotypes)
        self.network = np.repeat(np.arange(25), rng.integers(1, 5, 25))  # of each training
        self.counts = np.bincount(self.network)
        truth = self.genotypes.sum(axis=1) / 3 + rng.normal(size=25)
        self.costs = truth[self.network] + 0.7 * rng.normal(size=len(self.network))

    @property
    def measured(self):
        means = np.bincount(self.network, self.costs) / self.counts
        return Measurements(self.counts, means, float(((self.costs - means[self.network]) ** 2).sum()))


class Dense:
    """Dense model of n single trainings, with the hyperparameters of `model`."""

    def __init__(self, data, model, inflation=1.0):
        self.data, self.model = data, model
        own, noise = model.own_share, model.noise_share
        self.smooth, self.own = (1 - noise) * (1 - own), (1 - noise) * own
        same = data.network[:, None] == data.network[None]
        between = (
            self.smooth * correlation(data.rows, data.rows, model.length_scale)[np.ix_(data.network, data.network)]
        )
        unit = between + self.own * same + noise * np.eye(len(same))
        residual = self._center(unit)[1]
        n = len(same)
        self.variance = residual @ np.linalg.solve(unit, residual) / n
        self.log_likelihood = -0.5 * (n * np.log(self.variance) + np.linalg.slogdet(unit)[1])
        self.unit = unit + (inflation - 1) * noise * np.eye(n)
        self.mean, self.residual = self._center(self.unit)

    def _center(self, covariance):
        """Return the generalized least squares mean, and the residuals of the costs."""
        ones = np.ones(len(covariance))
        solved = np.linalg.solve(covariance, np.column_stack([self.data.costs, ones]))
        mean = (ones @ solved[:, 0]) / (ones @ solved[:, 1])
        return mean, self.data.costs - mean

    def posterior(self, rows, own):
        """Return mean and covariance of true costs; `own` (n_points, n_trainings): True for trainings of the point."""
        near = self.smooth * correlation(rows, self.data.rows, self.model.length_scale)[:, self.data.network]
        cross = near + self.own * own
        prior = self.smooth * correlation(rows, rows, self.model.length_scale) + self.own * np.eye(len(rows))
        mean = self.mean + cross @ np.linalg.solve(self.unit, self.residual)
        return mean, self.variance * (prior - cross @ np.linalg.solve(self.unit, cross.T))

    def of_networks(self):
        return self.posterior(self.data.rows, np.arange(25)[:, None] == self.data.network)


@given(places, st.integers(0, 5), st.sampled_from([1.0, 1.7]))
@settings(max_examples=30)
def test_means_of_trainings_have_the_same_posterior_as_single_trainings(start, seed, inflation):
    data = Trainings(seed)
    model = fit(data.rows, data.measured, start, max_passes=0, noise_inflation=inflation)
    dense = Dense(data, model, inflation)

    assert model.hyperparameters == start
    assert model.mean == pytest.approx(dense.mean, abs=1e-5)
    assert model.variance == pytest.approx(dense.variance, rel=1e-5)
    mean, covariance = dense.of_networks()
    assert model.posterior_means == pytest.approx(mean, abs=1e-4)
    assert model.posterior_variances == pytest.approx(np.diag(covariance), abs=1e-4)
    chosen = np.array([3, 7, 20])
    assert model.covariance(chosen) == pytest.approx(covariance[np.ix_(chosen, chosen)], abs=1e-4)
    # only differences of likelihoods matter: that of the means omits a term of the numbers of trainings
    omitted = 0.5 * np.log(data.counts).sum()
    assert model.log_likelihood - omitted == pytest.approx(dense.log_likelihood, abs=1e-3)


@given(places, st.integers(0, 5))
@settings(max_examples=15)
def test_a_network_that_was_never_trained_is_predicted_as_by_the_single_trainings(start, seed):
    data = Trainings(seed)
    model = fit(data.rows, data.measured, start, max_passes=0, noise_inflation=1.0)
    rows = FEATURES(networks(6, seed=100 + seed))

    means, variances = model.predict(rows)

    expected, covariance = Dense(data, model).posterior(rows, np.zeros((6, len(data.costs))))
    assert means == pytest.approx(expected, abs=1e-4)
    assert variances == pytest.approx(np.diag(covariance), abs=1e-4)


def test_the_hyperparameters_are_likelier_than_their_neighbors():
    data = Trainings(1)
    best = fit(data.rows, data.measured)

    def score(place):
        model = fit(data.rows, data.measured, place, max_passes=0)
        return model.log_likelihood + gaussian_process._log_prior(place)

    at = best.hyperparameters
    for step in (-1, 1):
        for moved, size in (
            (Hyperparameters(at.length + step, at.own, at.noise), len(LENGTH_SCALES)),
            (Hyperparameters(at.length, at.own + step, at.noise), len(OWN_SHARES)),
            (Hyperparameters(at.length, at.own, at.noise + step), len(NOISE_SHARES)),
        ):
            if max(vars(moved).values()) < size and min(vars(moved).values()) >= 0:
                assert score(moved) <= score(at)


@pytest.mark.parametrize("std", [0.1, 0.5, 2.0])
def test_the_noise_of_a_training_is_recovered_from_networks_trained_three_times(std):
    rng = np.random.default_rng(0)
    genotypes = networks(60)
    truth = genotypes.sum(axis=1) / 3 + 0.3 * rng.normal(size=60)
    answers = truth[:, None] + std * rng.normal(size=(60, 3))
    means = answers.mean(axis=1)

    model = fit(FEATURES(genotypes), Measurements(np.full(60, 3), means, ((answers.T - means) ** 2).sum()))

    assert np.sqrt(model.noise) == pytest.approx(std, rel=0.25)
    assert model.smooth + model.own + model.noise == pytest.approx(model.variance)


def test_a_network_far_beyond_the_others_is_left_out_of_the_model():
    assert inlier_indices(np.array([0.1, 0.2, 0.15, 0.12, 9.0, 0.18])).tolist() == [0, 1, 2, 3, 5]
    genotypes, costs = learned(30)
    with_outlier = Surrogate(FEATURES, (False, False))
    with_outlier.learn_all([*genotypes, (0, 1, 2, 3, 0, 1)], [*costs, np.array([[1e6, 1e6]])])
    without = Surrogate(FEATURES, (False, False))
    without.learn_all(genotypes, costs)

    assert with_outlier.means[:30] == pytest.approx(without.means)
    assert with_outlier.means[30].tolist() == [1e6, 1e6]


# Features


def distances(features, genotypes):
    rows = features(genotypes)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def test_numbers_are_as_far_apart_as_they_are_as_numbers():
    away = distances(Features([("8", "16", "32", "40"), ("x", "y")]), [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)])

    assert away[2, 3] < away[2, 1] < away[2, 0]
    assert away[0, 3] == pytest.approx(np.sqrt(2))
    assert away[0, 2] == pytest.approx(np.sqrt(2) * 24 / 32)
    assert away[0, 4] == pytest.approx(np.sqrt(2))


def test_names_are_all_equally_far_apart():
    away = distances(Features([("none", "skip", "conv"), ("0", "1")]), [(0, 0), (1, 0), (2, 0), (0, 1)])

    assert away[np.triu_indices(4, 1)] == pytest.approx([np.sqrt(2)] * 3 + [np.sqrt(2), 2, 2])


def test_genes_that_share_their_alleles_add_how_often_each_is_used():
    features = Features([("a", "b")] * 4 + [("c", "d")])
    one_hot = 2 * 5

    rows = features([(0, 0, 0, 1, 0), (1, 0, 0, 0, 1)])

    assert rows.shape == (2, one_hot + 2)
    assert rows[:, one_hot:] == pytest.approx(COUNTS_WEIGHT * np.array([[3, 1], [3, 1]]) / 2)
    assert rows[0, :one_hot].tolist() == [1, 0, 1, 0, 1, 0, 0, 1, 1, 0]


def test_features_without_names_are_those_of_names():
    genotypes = networks(5)
    assert (Features.of_sizes(SIZES)(genotypes) == Features([("a", "b", "c", "d")] * 6)(genotypes)).all()


# Learning from results


def learned(n, seed=0, trainings=(1, 4), std=0.3):
    """Return genotypes and the costs of their trainings in two conflicting objectives."""
    rng = np.random.default_rng(seed)
    genotypes = [tuple(genotype) for genotype in networks(n, seed).tolist()]
    truth = np.array([[sum(g), -sum(g[:3]) + g[5]] for g in genotypes], dtype=float)
    return genotypes, [values + std * rng.normal(size=(rng.integers(*trainings), 2)) for values in truth]


def answers(genotypes, costs, seed=0):
    """Yield single trainings in random order, those of one network in their own order."""
    waiting = [[(g, values) for values in own] for g, own in zip(genotypes, costs, strict=True)]
    rng = np.random.default_rng(seed)
    while waiting:
        i = int(rng.integers(len(waiting)))
        yield waiting[i].pop(0)
        waiting = [own for own in waiting if own]


def taught(genotypes, costs, exact=(False, False), look=False):
    surrogate = Surrogate(FEATURES, exact)
    for genotype, values in answers(genotypes, costs):
        surrogate.learn(genotype, values)
        if look and surrogate.models:
            surrogate.front_probabilities()
            surrogate.predict([(0, 0, 0, 0, 0, 0)])
            surrogate.draw(3)
    return surrogate


def test_its_state_depends_on_the_results_only_and_not_on_predictions():
    genotypes, costs = learned(40)
    one, other = taught(genotypes, costs), taught(genotypes, costs, look=True)

    assert one.keys == other.keys
    assert (one.means == other.means).all()
    assert (one.variances == other.variances).all()
    assert [model.hyperparameters for model in one.models] == [model.hyperparameters for model in other.models]
    assert (one.front_probabilities() == other.front_probabilities()).all()


def test_single_results_add_up_to_means_and_to_deviations_within_networks():
    genotypes, costs = learned(40)
    surrogate = taught(genotypes, costs)

    order = [surrogate.keys.index(genotype) for genotype in genotypes]
    assert surrogate.counts[order].tolist() == [len(own) for own in costs]
    assert surrogate.observed[order] == pytest.approx(np.array([own.mean(axis=0) for own in costs]))
    within = sum(((own - own.mean(axis=0)) ** 2).sum(axis=0) for own in costs)
    for objective in (0, 1):
        measured = surrogate._measured(objective, np.arange(40))
        assert measured.within == pytest.approx(within[objective])
        assert not measured.is_exact


def test_an_objective_without_noise_keeps_its_values_and_has_no_uncertainty():
    genotypes, costs = learned(40)
    exact = [np.column_stack([own[:, 0], np.full(len(own), sum(g))]) for g, own in zip(genotypes, costs, strict=True)]
    for known in ((False, True), (False, False)):  # declared, or inferred from equal re-trainings
        surrogate = taught(genotypes, exact, known)
        assert surrogate.means[:, 1].tolist() == [sum(key) for key in surrogate.keys]
        assert not surrogate.variances[:, 1].any()
        assert surrogate.variances[:, 0].all()
        assert surrogate.objective_is_exact(1)
        assert not surrogate.is_exact


def test_estimates_are_nearer_to_the_truth_than_means_of_trainings():
    genotypes, costs = learned(80, std=2.0)
    surrogate = Surrogate(FEATURES, (False, False))
    surrogate.learn_all(genotypes, costs)

    truth = np.array([[sum(g), -sum(g[:3]) + g[5]] for g in genotypes])
    errors = surrogate.means - truth
    assert (errors**2).mean() < 0.7 * ((surrogate.observed - truth) ** 2).mean()
    assert np.mean(np.abs(errors) <= 2 * np.sqrt(surrogate.variances)) > 0.85  # 95 % if the model were the truth


def test_before_there_are_enough_networks_estimates_are_means():
    surrogate = Surrogate(FEATURES, (False, False))
    for genotype, values in [((0,) * 6, (1.0, 2.0)), ((1,) * 6, (5.0, 5.0)), ((0,) * 6, (2.0, 4.0))]:
        surrogate.learn(genotype, values)

    assert surrogate.models == []
    assert surrogate.estimate((0,) * 6) == (1.5, 3.0)
    assert surrogate.estimate((2,) * 6) is None


def test_it_holds_a_bounded_number_of_networks_including_the_front():
    genotypes, costs = learned(500, trainings=(1, 2))
    surrogate = Surrogate(FEATURES, (True, True))
    surrogate.learn_all(genotypes, costs)

    assert len(surrogate.keys) <= 320
    front = np.flatnonzero(pareto.front_mask(np.concatenate(costs)))
    assert {genotypes[i] for i in front} <= set(surrogate.keys)


def test_the_number_of_networks_is_also_bounded_when_it_learns_one_result_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "MAX_NETWORKS", 40)
    genotypes, costs = learned(150, trainings=(1, 2))
    surrogate, held = Surrogate(FEATURES, (True, True)), []
    for genotype, values in answers(genotypes, costs):
        surrogate.learn(genotype, values)
        held.append(len(surrogate.keys))

    assert max(held) < 70
    assert len(set(surrogate.keys)) == len(surrogate.keys) == len(surrogate.means) == len(surrogate.counts)
    front = np.flatnonzero(pareto.front_mask(np.concatenate(costs)))
    assert {genotypes[i] for i in front} <= set(surrogate.keys)


def test_a_network_that_is_not_held_is_estimated_from_its_relatives_and_its_own_trainings(monkeypatch):
    monkeypatch.setattr(module, "MAX_NETWORKS", 40)
    genotypes, costs = learned(100)
    surrogate = Surrogate(FEATURES, (False, False))
    surrogate.learn_all(genotypes, costs)

    means, variances = surrogate.estimates(genotypes, costs)

    held = np.array([genotype in surrogate.keys for genotype in genotypes])
    assert 0 < held.sum() < 100
    order = [surrogate.keys.index(g) for g, is_held in zip(genotypes, held, strict=True) if is_held]
    assert (means[held] == surrogate.means[order]).all()
    others = [g for g, is_held in zip(genotypes, held, strict=True) if not is_held]
    predicted, uncertain = surrogate.predict(others)
    observed = np.array([own.mean(axis=0) for own, is_held in zip(costs, held, strict=True) if not is_held])
    assert (np.minimum(predicted, observed) <= means[~held]).all()
    assert (means[~held] <= np.maximum(predicted, observed)).all()
    assert (variances[~held] < uncertain).all()
    assert (variances > 0).all()


def test_the_surrogate_computes_on_one_thread(monkeypatch):
    threads = set()

    def seen(*arguments, **settings):
        threads.update(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return fit(*arguments, **settings)

    monkeypatch.setattr(module, "fit", seen)
    taught(*learned(12))

    assert threads == {1}


# Draws of the posterior


def test_draws_have_the_means_and_the_covariance_of_the_posterior():
    genotypes, costs = learned(12, std=3.0)
    surrogate = Surrogate(FEATURES, (False, False))
    surrogate.learn_all(genotypes, costs)

    draws = surrogate.draw(20_000)

    moving = np.flatnonzero(draws.std(axis=0)[:, 0] > 0)
    assert len(moving) > 4
    for objective, model in enumerate(surrogate.models):
        drawn = draws[:, moving, objective]
        covariance = model.covariance(moving)
        spread = np.sqrt(np.diag(covariance))
        assert drawn.mean(axis=0) == pytest.approx(surrogate.means[moving, objective], abs=4 * spread.max() / 141)
        assert np.cov(drawn.T) == pytest.approx(covariance, abs=6 * spread.max() ** 2 / 141)


def test_clearly_dominated_networks_keep_their_mean_and_are_never_on_the_front():
    genotypes, costs = learned(30, std=0.01)
    costs[4] = costs[4] + 50
    surrogate = Surrogate(FEATURES, (False, False))
    surrogate.learn_all(genotypes, costs)

    assert not np.ptp(surrogate.draw(50)[:, 4], axis=0).any()
    assert surrogate.front_probabilities()[4] == 0


@settings(max_examples=60)
@given(
    st.integers(1, 3).flatmap(
        lambda m: st.integers(1, 12).flatmap(lambda n: arrays(float, (5, n, m), elements=st.integers(0, 4).map(float)))
    )
)
def test_the_probability_of_being_on_the_front_is_the_share_of_the_draws(draws):
    expected = np.mean([pareto.front_mask(draw) for draw in draws], axis=0)

    assert front_probabilities(draws).tolist() == expected.tolist()


def test_a_network_that_is_not_held_is_drawn_independently_around_its_own_estimate():
    genotypes, costs = learned(24, seed=3)
    model = taught(genotypes[:22], costs[:22])
    keys = [genotypes[23], genotypes[1], genotypes[22]]
    means, variances = np.full((3, 2), 50.0), np.full((3, 2), 4.0)

    draws = model.draw_around(means, variances, keys, 4000)

    assert draws[:, [0, 2]].mean(axis=0) == pytest.approx(means[[0, 2]], abs=0.2)
    assert draws[:, [0, 2]].std(axis=0) == pytest.approx(np.full((2, 2), 2.0), rel=0.1)
    assert abs(np.corrcoef(draws[:, 0, 0], draws[:, 2, 0])[0, 1]) < 0.1
    held = [tuple(key) for key in model.keys].index(keys[1])
    assert np.array_equal(draws[:, 1], model.draw(4000)[:, held])


def test_trainings_that_are_all_zero_are_exact():
    assert Measurements(np.array([2, 1]), np.zeros(2), 0.0).is_exact
    assert not Measurements(np.array([1, 1]), np.zeros(2), 0.0).is_exact
    assert not Measurements(np.array([2, 1]), np.ones(2), 1e-6).is_exact


@pytest.mark.parametrize(("n_networks", "n_objectives"), [(9, 3), (9, 2), (2 * module.MAX_OPEN + 1, 3), (9, 1)])
def test_the_front_of_each_draw_is_that_of_its_points(n_networks, n_objectives):
    draws = np.random.default_rng(n_networks).integers(0, 4, (20, n_networks, n_objectives)).astype(float)

    found = module._on_front(draws)

    assert found.tolist() == [pareto.front_mask(draw).tolist() for draw in draws]


@given(arrays(float, (5, 7, 2), elements=st.integers(0, 5).map(float)))
def test_a_network_that_is_worse_in_every_draw_is_always_dominated(draws):
    found = module._always_dominated(draws)

    for i in range(7):
        worse = [(draws[:, j].max(axis=0) < draws[:, i].min(axis=0)).all() for j in range(7)]
        assert found[i] == any(worse)


def test_the_noise_of_exact_costs_is_not_inflated():
    data = Trainings(0)
    plain, inflated = (fit(data.rows, data.measured, exact=True, noise_inflation=factor) for factor in (1.0, 1.7))

    assert inflated.posterior_means.tolist() == plain.posterior_means.tolist()
    assert inflated.posterior_variances.tolist() == plain.posterior_variances.tolist()
