"""Batches in parts, with which a trial is repeated after it ran out of memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def images(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 2
    pixels = rng.integers(0, 100, size=(n, 1, 4, 4)) + 100 * labels[:, None, None, None]
    return LabeledImages(pixels.astype(np.uint8), labels, ("dark", "light"))


def trained(micro_batches, n=32):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))  # no batch normalization: parts change nothing
    one = np.ones(1, dtype=np.float32)
    data = SearchData(images(n, 0), images(8, 1), one, one)
    recipe = Recipe(epochs=2, batch_size=16, precision="float32", keep="last")
    cpu = torch.device("cpu")
    done = fit(network, data, recipe, augmentation=NO_AUGMENTATION, seed=3, device=cpu, micro_batches=micro_batches)
    return network[1].weight, done


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_gradients_of_parts_add_up_to_the_batchs(micro_batches):
    whole, of_whole = trained(1)
    parts, of_parts = trained(micro_batches)

    torch.testing.assert_close(parts, whole)
    rates = [[epoch["learning_rate"] for epoch in done.history] for done in (of_whole, of_parts)]
    assert rates[0] == rates[1]


def test_the_schedule_ends_at_zero_if_the_last_parts_are_fewer():
    _, done = trained(4, n=40)  # ten parts of four images: three updates an epoch, the last one of two parts

    assert done.history[-1]["learning_rate"] == pytest.approx(0, abs=1e-12)
