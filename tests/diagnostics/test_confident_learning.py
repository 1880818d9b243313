"""Confident learning: against cleanlab, on simulated networks of several qualities, and by hand."""

import numpy as np
import pytest

from nasx.data.dataset import LabeledImages
from nasx.diagnostics.confident_learning import (
    class_thresholds,
    confident_classes,
    confident_joint,
    estimate_errors,
    relative_confidence,
)
from nasx.diagnostics.suspects import Judgement, rank_suspects

N_CLASSES = 5


def simulate(n, *, noise, margin, seed=0):
    """Return (labels, probabilities, is_wrong): a calibrated network, the better the larger `margin`."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, N_CLASSES, n)
    logits = rng.normal(size=(n, N_CLASSES)) + margin * np.eye(N_CLASSES)[true]
    odds = np.exp(margin * logits)  # the likelihood ratio of the classes
    probabilities = (1 - noise) * odds / odds.sum(axis=1, keepdims=True) + noise / N_CLASSES  # it has seen the noise
    is_wrong = rng.random(n) < noise
    labels = np.where(is_wrong, (true + rng.integers(1, N_CLASSES, n)) % N_CLASSES, true)
    return labels, probabilities, is_wrong


def suspects_of(n, *, noise, margin, seed=0):
    labels, probabilities, is_wrong = simulate(n, noise=noise, margin=margin, seed=seed)
    images = LabeledImages(np.zeros((n, 1, 8, 8), dtype=np.uint8), labels, tuple("abcde"))
    out = np.ones(n, dtype=bool)
    return rank_suspects(images, None, probabilities, np.zeros(n), out_of_sample=out), is_wrong


def test_joint_and_thresholds_equal_those_of_cleanlab():
    count = pytest.importorskip("cleanlab.count", reason="the reference: pip install cleanlab")
    labels, probabilities, _ = simulate(2000, noise=0.2, margin=2.0)

    np.testing.assert_allclose(
        class_thresholds(labels, probabilities), count.get_confident_thresholds(labels, probabilities)
    )
    expected = count.compute_confident_joint(labels, probabilities, calibrate=True)
    np.testing.assert_allclose(confident_joint(labels, probabilities), expected, atol=1)  # it rounds to whole images


def test_joint_and_thresholds_equal_recorded_values_of_cleanlab():
    """Values of cleanlab 2.9.0."""
    labels, probabilities, _ = simulate(2000, noise=0.2, margin=2.0)

    assert class_thresholds(labels, probabilities)[:2] == pytest.approx([0.50228288, 0.52074272], abs=1e-6)
    assert confident_joint(labels, probabilities)[0] == pytest.approx([261, 23, 23, 31, 32], abs=1)


def test_an_image_below_all_thresholds_belongs_confidently_to_no_class():
    assert confident_classes([0, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]).tolist() == [0, 1, -1]


def test_a_class_without_images_has_no_confident_images():
    labels, probabilities = [0, 0], [[0.6, 0.1, 0.3], [0.3, 0.1, 0.6]]

    assert class_thresholds(labels, probabilities).tolist() == [pytest.approx(0.45), 1.0, 1.0]
    assert confident_joint(labels, probabilities).sum() == 2


def test_rare_classes_are_not_suspect_because_the_network_predicts_them_hesitantly():
    labels = [0] * 8 + [1] * 2
    probabilities = [[0.95, 0.05]] * 8 + [[0.6, 0.4], [0.55, 0.45]]

    values = relative_confidence(labels, probabilities)

    assert values[8:].min() > 0.9


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("margin", [2.0, 2.5, 4.0])
def test_the_number_of_planted_errors_is_estimated(noise, margin):
    suspects, is_wrong = suspects_of(4000, noise=noise, margin=margin)

    estimate = suspects.estimate
    assert estimate.number == pytest.approx(is_wrong.sum(), rel=0.35)
    assert estimate.low <= estimate.number <= estimate.high
    found = is_wrong[suspects.likely_errors()].mean()
    assert found == pytest.approx(suspects.precision, abs=0.2)
    assert suspects.judgement is Judgement.FOUND


@pytest.mark.parametrize("margin", [2.0, 2.5, 3.5, 5.0])
def test_a_clean_dataset_has_no_more_suspects_than_expected(margin):
    assert suspects_of(4000, noise=0.0, margin=margin)[0].judgement is Judgement.CLEAN


@pytest.mark.parametrize("n_held_out", [22, 4000, 0])
def test_a_network_that_confirms_the_labels_it_was_trained_on_does_not_make_them_clean(n_held_out):
    """Planted errors among the training images were learned by heart; there is none among the validation images."""
    seen, wrong = 90, 5
    labels = np.arange(seen + n_held_out) % 2
    shares = np.where(labels[:, None] == np.arange(2), 0.99, 0.01)
    shares[:wrong] = np.where(labels[:wrong, None] == np.arange(2), 0.6, 0.4)  # confirmed, but less surely
    train = LabeledImages(np.zeros((seen, 1, 8, 8), dtype=np.uint8), labels[:seen], ("a", "b"))
    validation = LabeledImages(np.zeros((n_held_out, 1, 8, 8), dtype=np.uint8), labels[seen:], ("a", "b"))
    out_of_sample = np.arange(len(labels)) >= seen
    suspects = rank_suspects(train, validation, shares, np.zeros(len(labels)), out_of_sample=out_of_sample)

    assert suspects.judgement is Judgement.UNKNOWN
    assert suspects.learned_by_heart
    if n_held_out == 22:
        assert suspects.estimate.high >= wrong


@pytest.mark.parametrize("margin", [0.7, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_a_weak_network_says_that_its_list_means_little(noise, margin):
    suspects, is_wrong = suspects_of(4000, noise=noise, margin=margin)

    assert is_wrong[suspects.likely_errors()].mean() < 0.5
    assert suspects.judgement is Judgement.WEAK


def test_the_estimate_depends_only_on_its_seed():
    labels, probabilities, _ = simulate(500, noise=0.1, margin=2.0)
    assert estimate_errors(labels, probabilities, seed=1) == estimate_errors(labels, probabilities, seed=1)


def test_without_confirmed_labels_nothing_is_estimated():
    assert estimate_errors([1, 0], [[0.9, 0.1], [0.1, 0.9]]).number == 0
