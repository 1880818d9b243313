"""Suspicion of label errors, and planted label errors."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasx.data.augmentation import Augmentation
from nasx.diagnostics.label_errors import corrupt_labels, cross_entropy, detection, plant_label_errors, suspicion
from nasx.errors import SettingError
from nasx.training.recipe import Recipe
from tests.factories.staged_networks import make_data, make_network

CPU = torch.device("cpu")
PLAIN = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def test_the_image_nearest_to_another_class_is_ranked_first():
    distances = [[0.1, 0.5, 0.9], [0.6, 0.3, 0.2], [0.2, 0.4, 0.9]]
    found = suspicion(distances, labels=[0, 1, 2])
    assert found.values == pytest.approx([-0.4, 0.1, 0.7])
    assert found.nearest.tolist() == [1, 2, 0]
    assert found.ranking().tolist() == [2, 1, 0]


def test_cross_entropy_equals_that_of_torch():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 5)), rng.integers(0, 5, 20)
    expected = F.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none")
    assert cross_entropy(logits, labels) == pytest.approx(expected.numpy())


def test_finds_are_counted_among_a_tenth_a_fifth_and_two_fifths_as_in_the_paper():
    assert detection(np.arange(10, 0, -1), np.arange(10) < 4).found == {0.1: 0.25, 0.2: 0.5, 0.4: 1.0}


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_exactly_the_share_is_corrupted_and_every_corrupted_label_differs(share):
    labels = np.random.default_rng(0).integers(0, 4, 500)
    new, is_corrupt = corrupt_labels(labels, 4, share=share, seed=1)
    assert is_corrupt.sum() == round(500 * share)
    assert ((new != labels) == is_corrupt).all()
    assert set(new) <= set(range(4))


def test_corrupted_labels_are_spread_over_all_other_classes():
    new, _ = corrupt_labels(np.zeros(3000, dtype=int), 4, share=1, seed=0)
    assert np.bincount(new, minlength=4)[1:] == pytest.approx(1000, rel=0.1)


def test_only_the_seed_determines_the_corrupted_labels():
    labels = np.arange(100) % 3
    first, second, third = (corrupt_labels(labels, 3, share=0.2, seed=seed)[1] for seed in (5, 5, 6))
    assert (first == second).all()
    assert (first != third).any()


def test_a_perfect_ranking_finds_as_many_as_are_inspected():
    is_corrupt = np.arange(100) < 20
    found = detection(-np.arange(100), is_corrupt)
    assert found.found == pytest.approx({0.1: 0.5, 0.2: 1.0, 0.4: 1.0})
    assert found.auroc == 1


def test_a_random_ranking_finds_the_share_that_is_inspected():
    rng = np.random.default_rng(0)
    found = detection(rng.random(20_000), rng.random(20_000) < 0.2)
    assert list(found.found.values()) == pytest.approx([0.1, 0.2, 0.4], abs=0.02)
    assert found.auroc == pytest.approx(0.5, abs=0.02)


def test_planted_errors_are_found_and_the_dataset_is_not_changed():
    data = make_data(n_train=300)
    before = data.train.labels.copy()
    recipe = Recipe(epochs=4, batch_size=32, learning_rate=0.05, precision="float32")
    planted = plant_label_errors(make_network, data, recipe, augmentation=PLAIN, share=0.2, seed=0, device=CPU)
    assert (data.train.labels == before).all()
    assert planted.validation_error < 0.1
    assert planted.by_distance.found[0.2] > 0.9
    assert planted.by_loss.auroc > 0.9
    again = plant_label_errors(make_network, data, recipe, augmentation=PLAIN, device=CPU)  # a fifth by default
    assert again == planted


@pytest.mark.parametrize("share", [0, 1])
def test_shares_of_0_and_1_are_rejected(share):
    with pytest.raises(SettingError, match=f"^share must be more than 0 and less than 1, got {share}$"):
        plant_label_errors(make_network, make_data(), Recipe(), augmentation=PLAIN, share=share, device=CPU)


def test_the_cross_entropy_of_half_precision_logits_is_computed_in_double_precision():
    logits = np.array([[1.001, -2.3, 0.7], [10.0, 9.99, -4.0]], dtype=np.float16)
    exact = logits.astype(np.float64)
    expected = np.log(np.exp(exact).sum(axis=1)) - exact[[0, 1], [2, 1]]

    np.testing.assert_allclose(cross_entropy(logits, [2, 1]), expected, rtol=1e-12)
