"""Cached features against the whole network: logits and scores within the tolerance that the documentation states."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasx.backbones.extraction import input_scale
from nasx.backbones.features import LOGIT_TOLERANCE, BackboneFeatures, on_features
from nasx.data.augmentation import Augmentation
from nasx.data.batches import Pixels
from nasx.data.dataset import LabeledImages, SearchData
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.spaces.backbone import BackboneSpace
from nasx.training.fit import fit
from nasx.training.recipe import Recipe
from tests.factories.pictures import scene

SPACE = BackboneSpace()
RECIPE = Recipe(epochs=4, batch_size=20, learning_rate=0.05, precision="float32", views=1)
STILL = Augmentation(crop_padding=0.0, horizontal_flip=False, cutout=0.0)


def photos(n: int, seed: int) -> LabeledImages:
    """Return pictures with structure of four classes, which differ in brightness and contrast."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([np.asarray(scene(rng, (64, 64))).transpose(2, 0, 1) for _ in range(n)])
    labels = np.arange(n) % 4
    dark = 1 - 0.6 * (labels % 2)[:, None, None, None]
    return LabeledImages((pixels * dark).astype(np.uint8), labels, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SearchData:
    source = BackboneFeatures(SPACE, tmp_path_factory.mktemp("features"), "photos")
    train, validation = photos(60, 1), photos(24, 2)
    for images in (train, validation):
        source.prepare(images, SPACE.cuts)
    return SearchData(train, validation, *input_scale(SPACE.preprocessing, 3), features=source)


def networks() -> list[tuple[int, ...]]:
    rng, found = random.Random(3), []
    while len(found) < 5:
        genotype = tuple(rng.randrange(size) for size in SPACE.gene_sizes)
        found += [SPACE.canonical(genotype)] if SPACE.is_connected(genotype) else []
    return found


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("genotype", networks(), ids=SPACE.describe)
def test_cached_features_lead_to_the_logits_and_scores_of_the_whole_network(data, genotype, trained):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SPACE.build(genotype, input_shape=data.shape, n_classes=4)
    if trained:
        fit(network, data, RECIPE, augmentation=STILL, seed=1, device=torch.device("cpu"))
    network.eval()
    part, read = on_features(network, data)
    images, maps = (Pixels(d.validation, mean=d.mean, std=d.std)[:] for d in (data, read))
    assert maps.shape[1:] == read.shape

    with torch.inference_mode():
        expected, found = network(images), part(maps)
    assert (found - expected).abs().max() <= LOGIT_TOLERANCE * expected.abs().max()
    assert F.mse_loss(found, expected) > 0  # of float16: the two were not computed by the same code

    labels = torch.from_numpy(data.validation.labels)
    for scorer, tolerance in (
        (ShapScorer(samples_per_class=2, draws=1, background=4), 5e-3),
        (ActivationScorer(), 1e-4),
    ):
        whole = scorer.score(network, images, labels, n_classes=4, seed=0).value
        assert scorer.score(part, maps, labels, n_classes=4, seed=0).value == pytest.approx(whole, abs=tolerance)
