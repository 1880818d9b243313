"""Calibration and detection of errors, against cases by hand, scipy and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.functional.classification import binary_calibration_error

from nasx.diagnostics.calibration import (
    accuracy_gain,
    calibration_map,
    error_auroc,
    expected_calibration_error,
    out_of_fold_probabilities,
    reliability,
    risk_coverage,
)


def draw(n=2000, seed=0):
    """Return confidences that are exactly the probabilities of a correct prediction."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1, n)
    return confidence, rng.random(n) < confidence


def test_bins_have_equal_numbers_of_images_in_the_order_of_confidence():
    found = reliability([0.5, 0.1, 0.9, 0.2, 0.8, 0.6], [True, False, True, True, False, False], n_bins=3)
    assert found.confidence == pytest.approx([0.15, 0.55, 0.85])
    assert found.accuracy == pytest.approx([0.5, 0.5, 0.5])
    assert (found.spearman, found.pearson) == (None, None)  # accuracy is the same in every bin


def test_correlations_equal_those_of_scipy():
    confidence, is_correct = draw()
    found = reliability(confidence, is_correct, n_bins=20)
    assert found.spearman == pytest.approx(stats.spearmanr(found.confidence, found.accuracy).statistic)
    assert found.pearson == pytest.approx(np.corrcoef(found.confidence, found.accuracy)[0, 1])
    assert found.pearson > 0.9


def test_there_are_no_more_bins_than_images():
    assert len(reliability([0.1, 0.9], [False, True], n_bins=50).accuracy) == 2


@pytest.mark.parametrize(("n", "bins"), [(0, 0), (1, 1), (59, 1), (60, 2), (287, 9), (5_000, 50)])
def test_every_bin_has_at_least_thirty_images_if_there_are_as_many(n, bins):
    found = reliability(np.linspace(0, 1, n), np.arange(n) % 2 == 0)
    assert len(found.images) == bins
    assert found.images.sum() == n
    assert all(found.images >= min(n, 30))
    assert np.all((found.low <= found.accuracy) & (found.accuracy <= found.high))


def test_the_calibration_error_equals_that_of_torchmetrics():
    confidence, is_correct = draw(500)
    expected = binary_calibration_error(torch.tensor(confidence), torch.tensor(is_correct).long(), n_bins=15, norm="l1")
    assert expected_calibration_error(confidence, is_correct) == pytest.approx(expected.item(), abs=1e-6)


def test_a_confidence_between_two_bins_is_of_the_lower_one():
    # two bins, (0, 0.5] and (0.5, 1]: 0.5 joins 0.1, gap |0.6 - 1| of two images, and 0.9 is alone, gap 0.1
    assert expected_calibration_error([0.1, 0.5, 0.9], [False, True, True], n_bins=2) == pytest.approx(0.5 / 3)


def test_confidences_of_0_and_1_have_bins():
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0


def test_a_calibration_map_never_decreases_and_is_a_probability():
    confidence, is_correct = draw(300)
    found = calibration_map(-confidence, is_correct)(np.linspace(-2, 1, 100))
    assert (np.diff(found) >= 0).all()
    assert 0 <= found.min() <= found.max() <= 1


def test_increasing_functions_of_a_confidence_are_calibrated():
    confidence, is_correct = draw()
    squeezed = out_of_fold_probabilities(np.tanh(5 * confidence), is_correct, seed=0)
    assert expected_calibration_error(np.tanh(5 * confidence), is_correct) > 0.2
    assert expected_calibration_error(squeezed, is_correct) < 0.05


def test_an_image_is_not_used_for_its_own_calibration():
    """The map of the fold with the only error is fitted to correct predictions."""
    is_correct = np.arange(20) != 7
    assert out_of_fold_probabilities(np.arange(20), is_correct, seed=0)[7] == 1


def test_a_confidence_that_separates_all_errors_has_the_least_risk():
    is_correct = np.array([True, False, True, True, False])
    coverage, risk = risk_coverage(is_correct.astype(float), is_correct)
    assert risk.tolist() == pytest.approx([0, 0, 0, 1 / 4, 2 / 5])
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert error_auroc(is_correct, is_correct) == 1
    assert accuracy_gain(is_correct, is_correct, dropped=0.4) == pytest.approx(2 / 5)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_correct_order(rows):
    confidence, is_correct = (np.array(column) for column in zip(*rows, strict=True))
    correct, incorrect = confidence[is_correct], confidence[~is_correct]
    if not len(correct) or not len(incorrect):
        assert error_auroc(confidence, is_correct) is None
    else:
        above = (correct[:, None] > incorrect) + 0.5 * (correct[:, None] == incorrect)
        assert error_auroc(confidence, is_correct) == pytest.approx(above.mean())


def test_dropping_nothing_gains_nothing_and_one_image_is_always_kept():
    confidence, is_correct = draw(50)
    assert accuracy_gain(confidence, is_correct, dropped=0) == 0
    assert accuracy_gain([0.1, 0.9], [False, True], dropped=0.99) == pytest.approx(0.5)


def test_means_of_single_precision_confidences_are_computed_in_double_precision():
    confidence = np.random.default_rng(0).random(999).astype(np.float32)
    found = reliability(confidence, confidence > 0.5, n_bins=3)

    parts = np.array_split(np.sort(confidence.astype(np.float64)), 3)
    np.testing.assert_allclose(found.confidence, [part.mean() for part in parts], rtol=1e-14)


def test_bins_of_single_precision_confidences_have_the_bounds_of_double_precision():
    confidence = np.array([0.2, 0.19], dtype=np.float32)  # 0.2 is above 3 / 15 here: the two are in different bins

    assert expected_calibration_error(confidence, [True, False]) == pytest.approx((0.8 + 0.19) / 2, abs=1e-6)
