"""Recall, precision and macro error, against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from nasx.diagnostics.calibration import wilson_interval
from nasx.diagnostics.class_report import ClassReport, class_report, from_entries

ANSWERS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(ANSWERS)
def test_the_figures_are_those_of_scikit_learn(answers):
    labels, predicted = np.array(answers).T
    found = class_report(labels, predicted, "abcde")
    options = {"labels": range(5), "average": None, "zero_division": np.nan}
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, predicted, labels=range(5)))
    np.testing.assert_allclose(found.recall, metrics.recall_score(labels, predicted, **options))
    np.testing.assert_allclose(found.precision, metrics.precision_score(labels, predicted, **options))
    assert found.error == pytest.approx(1 - metrics.accuracy_score(labels, predicted))
    recalls = metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro")
    assert found.macro_error == pytest.approx(1 - recalls)


@given(ANSWERS)
def test_a_report_is_rebuilt_from_its_entries(answers):
    found = class_report(*np.array(answers).T, "abcde")
    np.testing.assert_array_equal(from_entries(found.entries(), "abcde").confusion, found.confusion)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(0, 5, 0, 0.4345), (2, 3, 0.2077, 0.9385), (50, 100, 0.4038, 0.5962)]
)
def test_the_interval_is_that_of_wilson(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)  # of R's prop.test(correct=FALSE)


def test_without_images_nothing_is_defined():
    empty = class_report([], [], ["cat", "dog"])
    assert math.isnan(empty.error)
    assert math.isnan(empty.macro_error)
    assert np.isnan(empty.recall).all()
    assert not empty.is_unbalanced
    assert empty.recall_interval(0) == (0.0, 1.0)


def test_the_lowest_recall_is_first_and_classes_without_images_are_last():
    assert class_report([0, 0, 2, 3], [0, 3, 0, 3], "abcd").worst_first() == [2, 0, 3, 1]


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"must be 2 by 2, got \(3, 3\)"):
        ClassReport(("cat", "dog"), np.eye(3, dtype=np.int64))
