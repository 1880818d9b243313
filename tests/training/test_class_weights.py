"""Class weights: rare classes count as much in the loss as common ones; off by default, without any change."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.splits import split
from nasx.data.synthetic import Lines
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import FitResult, balancing_weights, fit
from nasx.training.lightning_module import Classifier
from nasx.training.recipe import Recipe

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def unbalanced() -> SearchData:
    images: LabeledImages = Lines(train_images=600).train()
    kept = (images.labels == 0) | (np.random.default_rng(0).random(len(images)) < 0.1)
    return split(images.take(np.flatnonzero(kept)), seed=0)


def fitted(data: SearchData, recipe: Recipe) -> FitResult:
    torch.manual_seed(0)
    network = NASBench201(channels=4, cells=1).build((3, 1, 0, 1, 0, 3), input_shape=data.shape, n_classes=4)
    return fit(network, data, recipe, augmentation=NO_AUGMENTATION, seed=0, device=torch.device("cpu"))


def test_weights_are_inverse_to_the_numbers_of_images() -> None:
    weights = balancing_weights(np.array([0] * 6 + [1] * 2), 2, torch.device("cpu"))

    assert weights.tolist() == pytest.approx([8 / 12, 8 / 4])
    assert float((weights * torch.tensor([6.0, 2.0])).sum()) == pytest.approx(8)


def test_the_loss_of_a_batch_is_the_weighted_cross_entropy() -> None:
    network, weights = torch.nn.Linear(3, 2), torch.tensor([0.5, 2.0])
    classifier = Classifier(network, Recipe(), 1, class_weights=weights)
    images, labels = torch.randn(5, 3), torch.tensor([0, 0, 0, 0, 1])

    expected = weights[labels] * F.cross_entropy(network(images), labels, reduction="none")
    assert classifier.loss(images, labels).item() == pytest.approx((expected.sum() / weights[labels].sum()).item())


def test_equal_classes_train_as_without_weights_and_unbalanced_ones_do_not() -> None:
    data = unbalanced()
    plain, off, on = (
        fitted(data, Recipe(epochs=1, batch_size=32, precision="float32", **how))
        for how in ({}, {"class_weights": False}, {"class_weights": True})
    )

    assert plain.history == off.history
    assert on.history[0]["train_loss"] != plain.history[0]["train_loss"]


def test_records_of_trainings_without_weights_are_those_of_older_versions() -> None:
    assert "class_weights" not in Recipe().as_record()
    assert Recipe(class_weights=True).as_record()["class_weights"] is True
