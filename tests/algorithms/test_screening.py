"""Screening: it prefers what a simple world makes better, and gains are hypervolumes."""

from __future__ import annotations

import numpy as np
import pytest

from nasx import pareto
from nasx.algorithms.screening import MIN_ANSWERS, Screen, gains

SIZES = (4,) * 5


def world(genotype):
    return (float(sum(genotype)), float((15 - sum(genotype[:3])) ** 2))


def taught(n=60):
    screen, rng = Screen(SIZES), np.random.default_rng(0)
    for _ in range(n):
        genotype = tuple(rng.integers(0, 4, 5).tolist())
        screen.learn(genotype, world(genotype))
    return screen


def test_it_is_ready_after_a_few_answers():
    assert not taught(MIN_ANSWERS - 1).is_ready
    assert taught(MIN_ANSWERS).is_ready


def test_it_chooses_what_dominates_in_an_additive_world():
    front = np.array([world((1, 1, 1, 1, 1))])
    better, equal, worse = (1, 1, 1, 0, 0), (1, 1, 1, 0, 2), (1, 1, 1, 3, 3)
    assert taught().choose([worse, better, equal], front) == 1


def test_objectives_without_range_do_no_harm():
    screen = Screen(SIZES)
    for i in range(20):
        screen.learn((i % 4,) * 5, (1.0, 1.0))
    assert screen.choose([(0, 1, 2, 3, 0), (1, 1, 1, 1, 1)], np.array([[1.0, 1.0]])) in (0, 1)


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_a_gain_is_the_difference_of_two_hypervolumes(n_objectives):
    points = np.random.default_rng(1).random((6, n_objectives))
    points[0], points[1] = 0.0, 1.0  # they span the unit cube, so that scaling changes nothing
    front = points[1:2]
    reference = np.full(n_objectives, 1.1)
    before = pareto.hypervolume(front, reference)
    expected = [pareto.hypervolume([*front, point], reference) - before for point in points]
    assert gains(points, front) == pytest.approx(expected)
