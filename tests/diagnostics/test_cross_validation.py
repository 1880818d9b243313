"""Out-of-sample probabilities by cross-validation, and the choice of the number of folds."""

import numpy as np
import pytest
import torch

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.diagnostics.cross_validation import cross_validate, draw_folds
from nasx.diagnostics.suspects import rank_suspects
from nasx.errors import SettingError
from nasx.training.recipe import Recipe
from nasx.workflows.suspect_review import check_folds, choose_folds
from tests.factories.staged_networks import make_data, make_network

PLAIN = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def test_no_network_is_trained_on_the_images_that_it_predicts():
    """An image that looks like no other is learned by heart: only out-of-sample its label is improbable."""
    data = make_data(n_train=90)
    wrong = data.train.labels.copy()
    wrong[7] = (wrong[7] + 1) % 3
    data = type(data)(
        LabeledImages(data.train.images, wrong, data.train.class_names), data.validation, data.mean, data.std
    )
    recipe = Recipe(epochs=4, batch_size=16, learning_rate=0.05, precision="float32")
    settings = {"augmentation": PLAIN, "folds": 3, "seed": 1, "device": torch.device("cpu")}
    epochs = []

    found = cross_validate(make_network, data, recipe, report=lambda fold, epoch: epochs.append(fold), **settings)

    assert found.sum(axis=1) == pytest.approx(1)
    assert found[7, wrong[7]] < 0.2
    assert (found.argmax(axis=1) == data.train.labels).mean() > 0.9
    assert epochs == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(found, cross_validate(make_network, data, recipe, **settings))


def test_every_class_is_spread_over_the_folds_even_a_rare_one():
    labels = np.array([0] * 50 + [1] * 4)
    folds = draw_folds(labels, 4, seed=0)

    assert sorted(folds[50:].tolist()) == [0, 1, 2, 3]
    assert np.bincount(folds[:50]).min() == 12


@pytest.mark.parametrize(("own_errors", "seconds", "folds"), [(0, 5, 4), (0, 100, 0), (8, 5, 0)])
def test_folds_are_trained_by_default_if_labels_were_learned_by_heart_and_it_takes_a_minute(own_errors, seconds, folds):
    labels = np.zeros(40, dtype=np.int64)
    images = LabeledImages(np.zeros((40, 1, 8, 8), dtype=np.uint8), labels, ("a", "b"))
    shares = np.tile([0.9, 0.1], (80, 1))
    shares[[*range(own_errors), *range(40, 50)]] = [0.1, 0.9]  # 10 errors on the validation images
    suspects = rank_suspects(images, images, shares, np.zeros(80), out_of_sample=np.arange(80) >= 40)

    assert choose_folds(suspects, seconds) == folds


@pytest.mark.parametrize("folds", [1, 21])
def test_an_impossible_number_of_folds_is_refused(folds):
    with pytest.raises(SettingError, match=rf"--folds must be 0 or from 2 to 20, got {folds}"):
        check_folds(folds)
