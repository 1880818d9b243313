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


def dominates(a, b):
    """Return whether `a` is not worse than `b` in any objective and better in one."""
    return bool(np.all(np.asarray(a) <= b) and np.any(np.asarray(a) < b))


@given(grids)
def test_the_front_is_the_set_of_non_dominated_points(costs):
    mask = pareto.front_mask(costs)

    brute = [not any(dominates(other, point) for other in costs) for point in costs]
    assert mask.tolist() == brute


@given(grids)
def test_each_point_is_dominated_by_a_point_of_the_previous_rank(costs):
    ranks = pareto.ranks(costs)

    for point, rank in zip(costs, ranks, strict=True):
        better = [r for other, r in zip(costs, ranks, strict=True) if dominates(other, point)]
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


fronts = st.integers(1, 4).flatmap(
    lambda m: st.integers(0, 9).flatmap(lambda n: arrays(float, (n, m), elements=st.integers(0, 6).map(float)))
)


@given(fronts)
def test_the_non_dominated_boxes_fill_the_complement_of_the_hypervolume(costs):
    corner, bottom = np.full(costs.shape[1], 5.0), -1.0  # some points are on or beyond the reference

    low, high = pareto.nondominated_boxes(costs, corner)

    volumes = (high - np.maximum(low, bottom)).prod(axis=1)
    assert volumes.min() >= 0
    assert volumes.sum() == pytest.approx(6.0 ** costs.shape[1] - pareto.hypervolume(costs, corner))


@given(fronts)
def test_the_non_dominated_boxes_are_disjoint_and_contain_no_dominated_point(costs):
    low, high = pareto.nondominated_boxes(costs, np.full(costs.shape[1], 5.0))

    for i in range(len(low)):
        overlap = (np.maximum(low[i], low[i + 1 :]) < np.minimum(high[i], high[i + 1 :])).all(axis=1)
        assert not overlap.any()
        assert not (costs < high[i]).all(axis=1).any()


@given(fronts, st.integers(0, 2**31 - 1))
def test_the_expected_improvement_of_a_certain_point_is_its_contribution_to_the_hypervolume(costs, seed):
    points = np.random.default_rng(seed).integers(-1, 8, size=(4, costs.shape[1])).astype(float)
    corner = np.full(costs.shape[1], 5.5)

    gains = pareto.expected_hypervolume_improvement(points, np.zeros_like(points), costs, corner)

    before = pareto.hypervolume(costs, corner)
    assert gains == pytest.approx([pareto.hypervolume([*costs, p], corner) - before for p in points], abs=1e-9)


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_the_expected_improvement_of_an_uncertain_point_is_the_mean_over_its_samples(n_objectives):
    rng = np.random.default_rng(n_objectives)
    costs, corner = rng.random((6, n_objectives)), np.full(n_objectives, 1.1)
    before = pareto.hypervolume(costs, corner)
    for spread in (0.05, 0.5):
        mean, deviation = costs.min(axis=0) + spread / 4, spread * (0.5 + rng.random(n_objectives))
        samples = mean + deviation * rng.standard_normal((3000, n_objectives))
        gains = [pareto.hypervolume([*costs, sample], corner) - before for sample in samples]

        (expected,) = pareto.expected_hypervolume_improvement([mean], [deviation], costs, corner)

        assert expected == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(3000))
        assert expected > 0


def test_the_expected_improvement_with_one_objective_agrees_with_the_textbook_formula():
    """(b - m) Phi(z) + s phi(z) with z = (b - m) / s: 0.5 Phi(0.25) + 2 phi(0.25) for m = 1, s = 2, b = 1.5."""
    assert pareto.expected_hypervolume_improvement([[1.0]], [[2.0]], [[1.5], [3.0]], [9.0]) == pytest.approx(
        [0.5 * 0.598706 + 2 * 0.386668], abs=1e-5
    )


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


def test_the_knee_is_the_point_farthest_below_the_line():
    assert pareto.knee([[0, 100], [0.2, 40], [0.5, 30], [1, 0]]) == 1


def test_a_dominated_point_is_never_the_knee():
    assert pareto.knee([[5, 5], [0, 4], [4, 0]]) == 1


def test_a_front_without_points_has_no_knee():
    with pytest.raises(ValueError, match="a front without points has no knee"):
        pareto.knee(np.empty((0, 2)))


@given(arrays(float, (40, 3), elements=st.integers(0, 6).map(float)), st.integers(2, 60))
def test_the_front_of_many_points_is_computed_in_parts_and_is_the_same(costs, paired):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "PAIRED", paired)
        mask = pareto.front_mask(costs)

    assert mask.tolist() == [not any(dominates(other, point) for other in costs) for point in costs]


def test_the_front_of_many_points_never_compares_all_pairs_at_once(monkeypatch):
    compared = []
    by_pairs = pareto._front_mask_by_pairs
    monkeypatch.setattr(pareto, "PAIRED", 10)
    monkeypatch.setattr(pareto, "_front_mask_by_pairs", lambda points: compared.append(len(points)) or by_pairs(points))

    pareto.front_mask(np.arange(90.0).reshape(30, 3))  # one point dominates all

    assert compared == [8, 8 + 1, 7 + 1, 7 + 1]


@pytest.mark.parametrize(
    ("front", "point", "expected"),
    [
        ([(1, 3), (3, 1)], (2, 2), [(1, 3), (2, 2), (3, 1)]),
        ([(1, 3), (3, 1)], (3, 3), [(1, 3), (3, 1)]),  # dominated
        ([(1, 3), (3, 1)], (1, 3), [(1, 3), (3, 1)]),  # equal
        ([(1, 3), (3, 1)], (1, 4), [(1, 3), (3, 1)]),
        ([(1, 3), (2, 2), (3, 1)], (1, 1), [(1, 1)]),
        ([(1, 3), (2, 2), (3, 1)], (2, 1), [(1, 3), (2, 1)]),
        ([], (0, 0), [(0, 0)]),
    ],
)
def test_a_point_is_inserted_into_a_front_of_two_objectives(front, point, expected):
    assert pareto._inserted(front, *point) == expected


@given(arrays(float, (12, 3), elements=st.integers(0, 4).map(float)))
def test_boxes_fill_what_no_point_dominates_and_do_not_overlap(costs):
    corner = np.array([4.5, 4.5, 4.5])
    lows, highs = pareto.nondominated_boxes(costs, corner)

    for place in np.random.default_rng(0).uniform(-1, 4.5, (60, 3)):
        inside = ((lows < place) & (place <= highs)).all(axis=1).sum()
        dominated = (costs < place).all(axis=1).any()
        assert inside == (0 if dominated else 1)
