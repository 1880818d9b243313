"""Mathematics of introspectability against values worked out by hand and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from nasx.introspection.similarity import (
    class_means,
    cosine_distances,
    gram,
    introspectability,
    mean_distances,
    means_from_sums,
)


def random_means(seed: int, n_classes: int = 7, n_features: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, (n_classes, n_features))


@pytest.mark.parametrize(
    ("u", "v", "distance"),
    [
        ([1, 0], [0, 1], 1),  # orthogonal
        ([1, 2], [2, 4], 0),  # same direction
        ([1, 0], [-3, 0], 2),  # opposite
        ([3, 4], [4, 3], 1 - 24 / 25),
        ([1, 1], [1, 0], 1 - 1 / math.sqrt(2)),
    ],
)
def test_distances_worked_out_by_hand(u, v, distance):
    assert cosine_distances(gram([u, v]))[0, 1] == pytest.approx(distance, abs=1e-15)


@given(st.integers(0, 10_000))
def test_distances_and_their_mean_are_those_of_scipy(seed):
    means = random_means(seed)
    reference = pdist(means, "cosine")

    distances = cosine_distances(gram(means))

    np.testing.assert_allclose(distances, squareform(reference), rtol=0, atol=1e-9)
    assert introspectability(distances) == pytest.approx(reference.mean(), abs=1e-9)


@given(st.integers(0, 10_000))
def test_the_gram_of_concatenated_layers_is_the_sum_of_the_layers_grams(seed):
    first, second = random_means(seed, n_features=11), random_means(seed + 1, n_features=3)

    distances = cosine_distances(gram(first) + gram(second))

    np.testing.assert_allclose(distances, squareform(pdist(np.hstack([first, second]), "cosine")), rtol=0, atol=1e-9)


@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_the_length_of_vectors_does_not_matter(seed, scale):
    means = random_means(seed)
    scales = np.linspace(scale, 2 * scale, len(means))[:, None]

    np.testing.assert_allclose(cosine_distances(gram(scales * means)), cosine_distances(gram(means)), atol=1e-12)


def test_means_of_streamed_sums_are_the_means():
    values, labels = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3
    sums = np.zeros((3, 4))
    for start in range(0, 20, 7):
        np.add.at(sums, labels[start : start + 7], values[start : start + 7])

    means = means_from_sums(sums, np.bincount(labels, minlength=3))

    np.testing.assert_allclose(means, [values[labels == c].mean(axis=0) for c in range(3)], atol=1e-15)
    np.testing.assert_allclose(class_means(values, labels, 3), means, atol=1e-15)


def test_a_pair_with_a_zero_vector_has_no_distance_and_is_left_out():
    distances = cosine_distances(gram([[1, 0], [0, 0], [0, 1]]))

    assert np.isnan(distances[0, 1])
    assert np.isnan(distances[1, 2])
    assert distances[0, 2] == 1
    assert np.array_equal(np.diag(distances), [0, 0, 0])
    assert introspectability(distances) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_has_no_distance(value):
    with np.errstate(invalid="ignore"):
        distances = cosine_distances(gram([[1, value], [1, 0], [0, 1]]))

    assert introspectability(distances) == 1  # the remaining pair


@pytest.mark.parametrize("means", [np.zeros((3, 2)), np.ones((1, 2)), np.zeros((0, 2)), [[1, 0], [0, 0]]])
def test_without_a_distance_there_is_no_score(means):
    with pytest.raises(ValueError, match="no pair of classes has a distance"):
        introspectability(cosine_distances(gram(means)))


def test_equal_weights_change_nothing():
    distances = cosine_distances(gram(random_means(3)))

    assert introspectability(distances, np.full((7, 7), 0.3)) == pytest.approx(introspectability(distances))


def test_with_a_weight_on_one_pair_the_score_is_its_distance():
    distances = cosine_distances(gram(random_means(3)))
    weights = np.zeros((7, 7))
    weights[2, 5] = weights[5, 2] = 4

    assert introspectability(distances, weights) == pytest.approx(distances[2, 5])


def test_weights_of_pairs_without_distance_do_not_count():
    distances = np.array([[0, 0.2, np.nan], [0.2, 0, 0.6], [np.nan, 0.6, 0]])

    assert introspectability(distances, [[1, 1, 100], [1, 1, 3], [100, 3, 1]]) == pytest.approx((0.2 + 3 * 0.6) / 4)


def test_layers_are_averaged_over_those_that_have_a_distance():
    first = np.array([[0, 0.2, np.nan], [0.2, 0, np.nan], [np.nan, np.nan, 0]])
    second = np.array([[0, 0.4, 0.7], [0.4, 0, np.nan], [0.7, np.nan, 0]])

    mean = mean_distances([first, second])

    assert mean[0, 1] == pytest.approx(0.3)
    assert mean[0, 2] == 0.7
    assert np.isnan(mean[1, 2])
