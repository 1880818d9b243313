"""Shares of variance, compared with a closed form, simulated components and the F statistic; partial correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scripts.measures import Interval, bootstrap, icc, icc_interval, partial_spearman, spearman


def simulated(k: int, seeds: int, share: float, seed: int = 0) -> np.ndarray:
    """Return values, (k, seeds), with `share` of the variance between architectures."""
    rng = np.random.default_rng(seed)
    return math.sqrt(share) * rng.normal(size=(k, 1)) + math.sqrt(1 - share) * rng.normal(size=(k, seeds))


def test_the_share_of_variance_worked_out_by_hand():
    assert icc([[1, 3], [5, 7], [9, 11]]) == pytest.approx(30 / 34)
    assert icc([[2, 2], [5, 5]]) == 1
    assert icc([[1, 3], [3, 1]]) == -1  # the means are equal: less than by chance
    assert math.isnan(icc([[4, 4], [4, 4]]))


def test_the_share_of_variance_follows_from_scipys_f_statistic():
    values = simulated(12, 3, 0.6)
    f = stats.f_oneway(*values).statistic

    assert icc(values) == pytest.approx((f - 1) / (f + 3 - 1))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_simulated_components_are_found(share):
    assert icc(simulated(4000, 3, share)) == pytest.approx(share, abs=0.03)


def test_the_interval_contains_the_true_value_at_about_its_level():
    held = 0
    for seed in range(100):
        found = icc_interval(simulated(40, 3, 0.6, seed), resamples=200)
        held += found.low <= 0.6 <= found.high

    assert 78 <= held <= 98  # of 100 at a level of 90 %


def test_intervals_that_touch_overlap():
    assert Interval(0.5, 0.4, 0.6).overlaps(Interval(0.7, 0.6, 0.8))
    assert not Interval(0.5, 0.4, 0.6).overlaps(Interval(0.8, 0.7, 0.9))
    assert str(Interval(0.5, 0.4, 0.6)) == "0.50 (0.40 to 0.60)"


def test_resamples_without_the_statistic_are_left_out():
    found = bootstrap(lambda rows: float("nan") if 0 in rows else 1.0, 3, resamples=50)

    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (1, 1)


def test_a_correlation_by_a_common_cause_vanishes_if_the_cause_is_controlled_for():
    rng = np.random.default_rng(0)
    cause = rng.normal(size=2000)
    x, y = cause + 0.5 * rng.normal(size=2000), cause + 0.5 * rng.normal(size=2000)

    assert spearman(x, y) > 0.7
    assert abs(partial_spearman(x, y, cause[:, None])) < 0.05


def test_the_partial_correlation_of_one_given_variable_has_a_closed_form():
    rng = np.random.default_rng(1)
    x, y, z = rng.normal(size=(3, 30))
    xy, xz, yz = spearman(x, y), spearman(x, z), spearman(y, z)

    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(x, y, z[:, None]) == pytest.approx(expected)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_constant_has_no_correlation():
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
