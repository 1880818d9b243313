import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion

from nasx.diagnostics.class_pairs import (
    class_pairs,
    closeness_and_confusion,
    confusion_matrix,
    most_confused,
    separated_at,
)

DISTANCES = np.array([[0, 0.5, np.nan], [0.5, 0, 0.2], [np.nan, 0.2, 0]])
CONFUSION = np.array([[5, 1, 0], [2, 4, 1], [0, 0, 6]])


def pairs():
    return class_pairs(DISTANCES, CONFUSION, {"stem": DISTANCES / 2})


def test_pairs_are_sorted_by_distance_with_undefined_ones_last():
    assert [(p.first, p.second) for p in pairs()] == [(1, 2), (0, 1), (0, 2)]


def test_a_pair_counts_confusions_in_both_directions():
    pair = pairs()[1]
    assert (pair.first_as_second, pair.second_as_first, pair.confusions) == (1, 2, 3)


def test_the_most_confused_pairs_exclude_those_never_confused():
    assert [(p.first, p.second) for p in most_confused(pairs(), 5)] == [(0, 1), (1, 2)]
    assert len(most_confused(pairs(), 1)) == 1


def test_a_pair_without_a_distance_is_never_separated():
    assert separated_at(pairs()[2], 0.0) is None


def test_the_confusion_matrix_equals_that_of_sklearn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (2, 100))
    expected = sklearn_confusion(labels, predicted, labels=range(4))
    assert confusion_matrix(labels, predicted, 4).tolist() == expected.tolist()


def test_closeness_and_confusion_are_correlated_over_pairs_that_have_a_distance():
    distances = np.array([[0, 0.9, 0.1, 0.5], [0.9, 0, 0.4, np.nan], [0.1, 0.4, 0, 0.8], [0.5, np.nan, 0.8, 0]])
    confusion = np.array([[9, 0, 4, 1], [0, 9, 1, 50], [5, 2, 9, 1], [1, 0, 0, 9]])
    spearman, pearson = closeness_and_confusion(distances, confusion)
    closeness, confused = [-0.9, -0.1, -0.5, -0.4, -0.8], [0, 9, 2, 3, 1]
    assert spearman == pytest.approx(1)
    assert pearson == pytest.approx(np.corrcoef(closeness, confused)[0, 1])


def test_without_confusions_there_is_no_correlation():
    assert closeness_and_confusion(DISTANCES, np.diag([5, 5, 5])) == (None, None)
