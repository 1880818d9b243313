"""Parameters and multiply-accumulates, counted by hand."""

from __future__ import annotations

import torch
from torch import nn

from nasx.networks.costs import count_macs, count_parameters


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 5)
    )


def test_parameters_are_counted_with_frozen_ones():
    found = network()
    assert count_parameters(found) == (3 * 4 * 9 + 4) + 2 * 4 + (64 * 5 + 5)

    found[0].weight.requires_grad_(False)
    assert count_parameters(found) == (3 * 4 * 9 + 4) + 2 * 4 + (64 * 5 + 5)


def test_macs_are_those_of_convolutions_and_matrix_products_of_one_image():
    assert count_macs(network(), (3, 8, 8)) == 3 * 4 * 9 * 64 + 64 * 5


def test_counting_leaves_the_network_as_it_was():
    found = network()
    statistics = found[1].running_mean.clone()

    for mode in (True, False):
        found.train(mode)
        count_macs(found, (3, 8, 8))
        assert found.training is mode
    assert torch.equal(found[1].running_mean, statistics)
