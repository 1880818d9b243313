"""Pareto mathematics against hand-worked cases, brute force and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nasx import pareto

grids = st.integers(1, 3).flatmap(
    lambda m: st.integers(1, 25).flatmap(lambda n: arrays(float, (n, m), elements=st.integers(0, 6).map(float)))
)


@given(grids)
def test_the_front_is_what_no_other_point_dominates(costs):
    mask = pareto.front_mask(costs)

    brute = [not any(pareto.dominates(other, point) for other in costs) for point in costs]
    assert mask.tolist() == brute


@given(grids)
def test_each_point_is_dominated_by_one_of_the_rank_before(costs):
    ranks = pareto.ranks(costs)

    for point, rank in zip(costs, ranks, strict=True):
        better = [r for other, r in zip(costs, ranks, strict=True) if pareto.dominates(other, point)]
        assert rank == (max(better) + 1 if better else 0)


@given(grids)
def test_removing_a_dominated_point_changes_nothing(costs):
    mask = pareto.front_mask(costs)
    corner = np.full(costs.shape[1], 7.0)

    assert pareto.hypervolume(costs[mask], corner) == pytest.approx(pareto.hypervolume(costs, corner))


@given(grids)
def test_hypervolume_equals_the_count_of_dominated_unit_cubes(costs):
    corner = np.full(costs.shape[1], 7)

    cells = np.stack(np.meshgrid(*[np.arange(7)] * costs.shape[1], indexing="ij"), axis=-1).reshape(-1, costs.shape[1])
    dominated = (costs[None, :, :] <= cells[:, None, :]).all(axis=2).any(axis=1)
    assert pareto.hypervolume(costs, corner) == pytest.approx(dominated.sum())


@pytest.mark.parametrize("costs", [np.empty((0, 2)), [[3, 1]], [[1, 3]], [[5, 5]]])
def test_a_point_on_or_beyond_the_reference_adds_nothing(costs):
    assert pareto.hypervolume(costs, [3, 3]) == 0


@pytest.mark.parametrize(
    ("costs", "distances"),
    [
        ([[1, 1]], [np.inf]),
        ([[0, 4], [1, 2], [4, 0]], [np.inf, 4 / 4 + 4 / 4, np.inf]),
        ([[0, 4], [1, 2], [2, 1], [4, 0]], [np.inf, 2 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]),
        ([[0, 1], [2, 1], [4, 1]], [np.inf, 4 / 4 + 0, np.inf]),
    ],
)
def test_crowding_distance_of_hand_worked_fronts(costs, distances):
    assert pareto.crowding_distance(costs).tolist() == distances


def test_the_knee_is_the_point_that_bulges_most():
    assert pareto.knee([[0, 100], [0.2, 40], [0.5, 30], [1, 0]]) == 1


def test_a_dominated_point_is_never_the_knee():
    assert pareto.knee([[5, 5], [0, 4], [4, 0]]) == 1


def test_no_knee_without_a_point():
    with pytest.raises(ValueError, match="a front without points has no knee"):
        pareto.knee(np.empty((0, 2)))


def test_without_noise_the_front_is_certain():
    probabilities = pareto.front_probabilities([[0, 1], [1, 0], [1, 1]], [1, 1, 1], np.empty((0, 2)), seed=0)

    assert probabilities.tolist() == [1, 1, 0]


def test_two_equal_points_with_noise_in_one_objective_share_the_front():
    # the one that comes out better dominates; equal draws leave both
    noise = [[1.0, 0.0], [-1.0, 0.0]]

    probabilities = pareto.front_probabilities([[0, 0], [0, 0]], [1, 1], noise, seed=0, draws=4000)

    assert probabilities == pytest.approx([0.75, 0.75], abs=0.03)


def test_more_measurements_leave_less_doubt():
    noise = np.random.default_rng(0).normal(size=(500, 2))
    points = [[0.0, 0.0], [0.5, 0.5]]

    once, often = (pareto.front_probabilities(points, [n, n], noise, seed=0)[1] for n in (1, 16))

    assert often < once
