"""Networks padded with useless blocks that separate the classes, but have almost no effect on the decision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from tests.factories.networks import N_CLASSES, labeled, seeded, staged_network


class Padded(nn.Module):
    """Stage with a wide parallel block that detects classes; a billionth of its sum is added to the output."""

    def __init__(self, stage: nn.Module, detectors: Tensor) -> None:
        super().__init__()
        self.stage = stage
        self.detect = nn.Conv2d(detectors.shape[1], detectors.shape[0], 1, bias=False)
        self.detect.weight.data = 100 * detectors[:, :, None, None]
        self.fire = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x) + 1e-9 * self.fire(self.detect(x)).sum(dim=1, keepdim=True)


def padded_network() -> nn.Sequential:
    network = staged_network()
    class_means = seeded(1, N_CLASSES, 3, 1, 1)[:, :, 0, 0]  # as in `labeled`
    network.stem = Padded(network.stem, torch.nn.functional.normalize(class_means))
    return network.eval()


SHAP = ShapScorer(samples_per_class=10, draws=8)


@pytest.mark.parametrize(("scorer", "is_fooled"), [(SHAP, False), (ActivationScorer(), True)])
def test_useless_blocks_increase_the_activation_score_but_not_the_default_one(scorer, is_fooled):
    images, labels = labeled(80)
    plain, padded = (
        scorer.score(network, images, labels, n_classes=N_CLASSES, seed=0).value
        for network in (staged_network(), padded_network())
    )

    if is_fooled:
        assert padded > 1.2 * plain
    else:
        assert padded == pytest.approx(plain, abs=1e-4)


def test_useless_blocks_increase_the_balanced_activation_score_less():
    images, labels = labeled(80)

    def gain(scorer: ActivationScorer) -> float:
        plain, padded = (
            scorer.score(network, images, labels, n_classes=N_CLASSES, seed=0).value
            for network in (staged_network(), padded_network())
        )
        return padded - plain

    assert 0 < gain(ActivationScorer(layer_balanced=True)) < gain(ActivationScorer())
