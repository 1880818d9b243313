"""Macro error: the error of unbalanced data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches
from nasx.data.dataset import LabeledImages
from nasx.data.splits import split
from nasx.data.synthetic import Lines
from nasx.evaluation.train_and_score import balanced_better_than_chance, better_than_chance
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import fit
from nasx.training.lightning_module import _add_by_class, _macro_error
from nasx.training.recipe import Recipe
from nasx.trial import OBJECTIVES

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def unbalanced_lines(*, rare_share: float) -> LabeledImages:
    """Return lines with few images in three of the classes."""
    images = Lines(train_images=800).train()
    rng = np.random.default_rng(0)
    kept = (images.labels == 0) | (rng.random(len(images)) < rare_share)
    return images.take(np.flatnonzero(kept))


def test_every_class_has_the_same_weight():
    logits = torch.eye(2)[torch.tensor([0] * 8 + [0, 0])]  # all are predicted as 0
    labels = torch.tensor([0] * 8 + [1, 1])

    counts = _add_by_class(None, logits, labels)

    assert _macro_error(counts) == 0.5
    assert _macro_error(_add_by_class(counts, logits, labels)) == 0.5


def test_a_class_without_images_is_ignored():
    assert _macro_error(_add_by_class(None, torch.eye(3)[[0, 1]], torch.tensor([0, 0]))) == 0.5


def test_training_records_the_macro_error_of_the_epoch_that_it_keeps():
    data = split(unbalanced_lines(rare_share=0.15), seed=0)
    torch.manual_seed(0)
    network = NASBench201(channels=4, cells=1).build((3, 1, 0, 1, 0, 3), input_shape=data.shape, n_classes=4)

    recipe = Recipe(epochs=2, batch_size=32, precision="float32")
    fitted = fit(network, data, recipe, augmentation=NO_AUGMENTATION, seed=0, device=torch.device("cpu"))

    batches = EvaluationBatches(data.validation, mean=data.mean, std=data.std, batch_size=500)
    with torch.no_grad():
        predicted = torch.cat([network(images).argmax(dim=1) for images, _ in batches])
    assert fitted.macro_error == pytest.approx(1 - balanced_accuracy_score(data.validation.labels, predicted))
    assert fitted.macro_error != pytest.approx(fitted.validation_error)


def test_a_network_that_finds_the_rare_class_has_learned_even_if_its_error_is_above_that_of_the_commonest_class():
    labels = np.repeat([0, 1], [950, 50])
    images = LabeledImages(np.zeros((1000, 1, 8, 8), np.uint8), labels, ("common", "rare"))

    assert not better_than_chance(0.10, images)  # 100 common images predicted as rare, all rare ones correct
    assert balanced_better_than_chance((100 / 950 + 0) / 2, images)
    assert not balanced_better_than_chance(0.5, images)


def test_both_rules_agree_on_balanced_data():
    images = LabeledImages(np.zeros((400, 1, 8, 8), np.uint8), np.arange(400) % 4, tuple("abcd"))

    for error in np.linspace(0.5, 0.8, 61):
        assert better_than_chance(error, images) == balanced_better_than_chance(error, images)


def test_the_reference_point_of_the_objective_is_chance():
    assert OBJECTIVES["macro_error"].reference(4) == 0.75
