import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nasx.reports.comparison import attainment_surfaces

COSTS = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 6).map(float))


def attains(front, goal):
    """Return whether a run attains a goal, by brute force."""
    return any((point <= goal).all() for point in front)


def test_one_run_attains_its_own_front():
    surface = attainment_surfaces([np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0]])], [1.0])

    assert surface.tolist() == [[1, 3], [2, 1], [3, 1]]


def test_the_median_of_three_runs_is_what_two_of_them_attained():
    fronts = [np.array([[0.0, y]]) for y in (1.0, 2.0, 7.0)]

    assert attainment_surfaces(fronts, [1 / 3, 0.5, 1.0]).tolist() == [[0, 1, 2, 7]]


def test_a_run_without_a_front_attains_nothing():
    surface = attainment_surfaces([np.empty((0, 2)), np.array([[1.0, 1.0]])], [0.5, 1.0])

    assert surface.tolist() == [[1, 1, math.inf]]


def test_without_any_point_there_is_no_step():
    assert attainment_surfaces([np.empty((0, 2))], [0.5]).shape == (0, 2)


@given(st.lists(COSTS, min_size=1, max_size=5), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_a_goal_on_the_surface_is_attained_by_that_share_and_none_below_it(fronts, share):
    for x, y in attainment_surfaces(fronts, [share]):
        needed = share * len(fronts)
        if math.isfinite(y):
            assert sum(attains(front, [x, y]) for front in fronts) >= needed - 1e-9
        below = (y if math.isfinite(y) else 100.0) - 0.5
        assert sum(attains(front, [x, below]) for front in fronts) < needed


def test_larger_shares_attain_less():
    rng = np.random.default_rng(0)
    surfaces = attainment_surfaces([rng.random((6, 2)) for _ in range(7)], [0.25, 0.5, 0.75])[:, 1:]

    assert (surfaces[:, 1:] >= surfaces[:, :-1]).all()
