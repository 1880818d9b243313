"""Properties specific to the variants of NAS-Bench-201 and to chains."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasx.errors import ArchitectureError, SettingError
from nasx.networks.chain import Layer, chain_network
from nasx.networks.costs import count_parameters
from nasx.networks.skeletons import SameConv
from nasx.spaces.chain import Chain
from nasx.spaces.nb201 import NASBench201, NASBench201XNAS
from nasx.spaces.nb201_size import NASBench201Joint, NASBench201Size

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"

# --- the paper's code -----------------------------------------------------------------------------------------------


def test_the_papers_code_has_another_order_of_operations():
    assert NASBench201XNAS().parse(CELL) == (0, 0, 2, 4, 0, 4)
    assert NASBench201().parse(CELL) == (3, 3, 4, 1, 3, 1)


def test_the_papers_skeleton_has_no_last_batch_norm_and_two_biases_more():
    space = NASBench201XNAS()

    network = space.build(space.parse(CELL), input_shape=(3, 32, 32), n_classes=10)

    assert count_parameters(network) == 802_426 - 2 * 64 + 32 + 64
    assert [type(module) for module in network.head] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]


def test_feature_maps_are_not_negative_after_a_reduction():
    space = NASBench201XNAS(channels=4, cells=1)
    network = space.build(space.parse(CELL), input_shape=(1, 8, 8), n_classes=2)

    maps = network.stage2[0](torch.randn(3, 4, 8, 8))

    assert maps.min() >= 0


@pytest.mark.parametrize("side", [4, 5, 12, 13])
def test_strided_convolutions_pad_as_tensorflow_does(side):
    conv = SameConv(1, 1)
    x = torch.arange(float(side * side)).view(1, 1, side, side)
    before, after = (0, 1) if side % 2 == 0 else (1, 1)

    by_hand = F.conv2d(F.pad(x, (before, after, before, after)), conv.weight, stride=2)

    assert conv(x).shape[-1] == -(-side // 2)
    assert torch.equal(conv(x), by_hand)


def test_batch_norm_and_initialization_are_those_of_keras():
    space = NASBench201XNAS(channels=4, cells=1)
    network = space.build(space.parse(CELL), input_shape=(1, 8, 8), n_classes=2)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert not network.head[-1].bias.any()


@pytest.mark.parametrize("share", [0, 1.5])
def test_norm_momentum_is_a_share(share):
    with pytest.raises(SettingError, match=r"norm_momentum must be more than 0 and at most 1, got"):
        NASBench201XNAS(norm_momentum=share)


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_with_channels_16_32_64_the_network_is_the_published_one():
    space = NASBench201Size(cell=CELL, cells=5)

    network = space.build(space.parse("16:32:64"), input_shape=(3, 32, 32), n_classes=10)

    assert count_parameters(network) == 802_426


def test_the_joint_space_encodes_cell_and_channels():
    space = NASBench201Joint()
    genotype = space.parse(f"{CELL} 16:32:64")

    assert genotype == (3, 3, 4, 1, 3, 1, 1, 3, 7)
    assert space.describe(genotype) == f"{CELL} 16:32:64"
    assert space.parameters(genotype, n_classes=10) == 802_426
    assert space.allele_names(0)[3] == "nor_conv_3x3"
    assert space.allele_names(8)[7] == "64"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16-32-64", "must be written as 16:32:64"),
        ("16:32", "expected the channels of 3 stages, got those of 2 in"),
        ("16:32:65", "channels must be one of 8, 16, .*, 64, got 65"),
    ],
)
def test_malformed_channels_are_reported(text, message):
    with pytest.raises(ArchitectureError, match=message):
        NASBench201Size().parse(text)
    with pytest.raises(ArchitectureError, match=message):
        NASBench201Joint().parse(f"{CELL} {text}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (8,)}, r"widths must be a list of integers, length at least 2, each at least 1, got \[8\]"),
        ({"widths": (8, 8)}, r"widths must all be different, got \[8, 8\]"),
        ({"widths": (0, 8)}, r"widths must be a list of integers, .*each at least 1, got \[0, 8\]"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
        ({"cell": "x"}, "cell must be a cell of NAS-Bench-201: expected 3 nodes"),
        (
            {"cell": CELL.replace("nor_conv_3x3", "none").replace("skip_connect", "none")},
            "is disconnected: no path leads from its input to its output",
        ),
    ],
)
def test_settings_of_sizes_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        NASBench201Size(**settings)


# --- chains ---------------------------------------------------------------------------------------------------------


def test_layers_halve_the_resolution_while_four_pixels_remain():
    network = chain_network([Layer(3, 2)] * 5, "relu", channels=2, input_shape=(1, 28, 28), n_classes=3).eval()

    sides, x = [], torch.zeros(1, 1, 28, 28)
    for stage in network[:-1]:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [28, 14, 7, 7, 7, 7]


def test_genes_beyond_the_depth_have_no_effect():
    space = Chain(max_depth=3)

    assert space.canonical((0, 1, 2, 3, 1, 1, 1, 1)) == (0, 1, 2, 3, 0, 0, 0, 0)
    assert space.describe((0, 1, 2, 3, 1, 1, 1, 1)) == "gelu 5x5:64"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relu", "expected an activation and 1 to 6 layers"),
        ("relu" + " 3x3:8" * 7, "expected an activation and 1 to 6 layers"),
        ("rely 3x3:8", "unknown activation 'rely'. Did you mean relu?"),
        ("relu 3x3:8 3x5:8", "layer 2 must be written as kernel and width, e.g. 3x3:16, got '3x5:8'"),
        ("relu 9x9:8", "layer 1: kernel must be one of 1, 3, 5, 7, got 9"),
        ("relu 3x3:9", "layer 1: width must be one of 8, 16, 32, 64, got 9"),
    ],
)
def test_a_malformed_chain_is_reported(text, message):
    with pytest.raises(ArchitectureError, match=message):
        Chain().parse(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_depth": 0}, "max_depth must be at least 1, got 0"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"kernels": (2, 3)}, "kernels must be odd, so that they have a center, got 2"),
        ({"kernels": ()}, r"kernels must be a list of integers, length at least 1, each at least 1, got \[\]"),
        ({"widths": (8, 8)}, r"widths must all be different, got \[8, 8\]"),
        ({"widths": (0, 8)}, r"widths must be a list of integers, .*each at least 1, got \[0, 8\]"),
        ({"activations": ()}, r"activations must be a list of text, length at least 1, got \[\]"),
        ({"activations": ("rellu",)}, r"activations must be known activations, got 'rellu'\. Did you mean relu\?"),
    ],
)
def test_settings_of_chains_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        Chain(**settings)
