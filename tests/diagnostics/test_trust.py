"""Calibration and mispredictions: hand-worked cases, scipy, scikit-learn, torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.functional.classification import binary_calibration_error

from nasx.diagnostics.calibration import (
    calibration_map,
    cross_calibrated,
    expected_calibration_error,
    reliability,
)
from nasx.diagnostics.mispredictions import accuracy_gain, error_auroc, risk_coverage


def draw(n=2000, seed=0):
    """Confidences that are exactly the chances of being right."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1, n)
    return confidence, rng.random(n) < confidence


def test_bins_hold_equally_many_images_in_the_order_of_confidence():
    found = reliability([0.5, 0.1, 0.9, 0.2, 0.8, 0.6], [True, False, True, True, False, False], n_bins=3)
    assert found.confidence == pytest.approx([0.15, 0.55, 0.85])
    assert found.accuracy == pytest.approx([0.5, 0.5, 0.5])
    assert (found.spearman, found.pearson) == (None, None)  # accuracy is the same in every bin


def test_correlations_are_those_of_scipy():
    confidence, is_right = draw()
    found = reliability(confidence, is_right, n_bins=20)
    assert found.spearman == pytest.approx(stats.spearmanr(found.confidence, found.accuracy).statistic)
    assert found.pearson == pytest.approx(np.corrcoef(found.confidence, found.accuracy)[0, 1])
    assert found.pearson > 0.9


def test_there_are_no_more_bins_than_images():
    assert len(reliability([0.1, 0.9], [False, True], n_bins=50).accuracy) == 2


def test_the_calibration_error_is_that_of_torchmetrics():
    confidence, is_right = draw(500)
    expected = binary_calibration_error(torch.tensor(confidence), torch.tensor(is_right).long(), n_bins=15, norm="l1")
    assert expected_calibration_error(confidence, is_right) == pytest.approx(expected.item(), abs=1e-6)


def test_a_confidence_between_two_bins_is_of_the_lower_one():
    # two bins, (0, 0.5] and (0.5, 1]: 0.5 joins 0.1, gap |0.6 - 1| of two images, and 0.9 is alone, gap 0.1
    assert expected_calibration_error([0.1, 0.5, 0.9], [False, True, True], n_bins=2) == pytest.approx(0.5 / 3)


def test_confidences_of_0_and_1_have_bins():
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0


def test_a_calibration_map_never_falls_and_is_a_probability():
    confidence, is_right = draw(300)
    found = calibration_map(-confidence, is_right)(np.linspace(-2, 1, 100))
    assert (np.diff(found) >= 0).all()
    assert 0 <= found.min() <= found.max() <= 1


def test_any_rising_function_of_a_confidence_is_calibrated_alike():
    confidence, is_right = draw()
    squeezed = cross_calibrated(np.tanh(5 * confidence), is_right, seed=0)
    assert expected_calibration_error(np.tanh(5 * confidence), is_right) > 0.2
    assert expected_calibration_error(squeezed, is_right) < 0.05


def test_an_image_has_no_part_in_its_own_calibration():
    """The one error is never foreseen: its fold's map knows none."""
    is_right = np.arange(20) != 7
    assert cross_calibrated(np.arange(20), is_right, seed=0)[7] == 1


def test_a_confidence_that_knows_every_error_has_the_least_risk():
    is_right = np.array([True, False, True, True, False])
    coverage, risk = risk_coverage(is_right.astype(float), is_right)
    assert risk.tolist() == pytest.approx([0, 0, 0, 1 / 4, 2 / 5])
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert error_auroc(is_right, is_right) == 1
    assert accuracy_gain(is_right, is_right, dropped=0.4) == pytest.approx(2 / 5)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_couples_in_the_right_order(rows):
    confidence, is_right = (np.array(column) for column in zip(*rows, strict=True))
    right, wrong = confidence[is_right], confidence[~is_right]
    if not len(right) or not len(wrong):
        assert error_auroc(confidence, is_right) is None
    else:
        above = (right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)
        assert error_auroc(confidence, is_right) == pytest.approx(above.mean())


def test_dropping_nothing_gains_nothing_and_one_image_is_always_answered():
    confidence, is_right = draw(50)
    assert accuracy_gain(confidence, is_right, dropped=0) == 0
    assert accuracy_gain([0.1, 0.9], [False, True], dropped=0.99) == pytest.approx(0.5)
