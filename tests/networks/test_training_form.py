"""A network and its training form are the same function, learn the same, and give their weights to one another."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasx.networks.training_form import (
    MIN_CONVOLVED_NUMBERS,
    ConvolvedAvgPool,
    TrainingCell,
    copy_weights_back,
    training_form,
)
from nasx.spaces.cell_yaml import CellSpace
from nasx.spaces.nb201 import NASBench201, NASBench201XNAS

SHAPE = (3, 8, 8)
C3, C1, POOL, SKIP = "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect"
CELLS = {
    "six convolutions": f"|{C3}~0|+|{C3}~0|{C3}~1|+|{C3}~0|{C3}~1|{C3}~2|",
    "two sizes from a node": f"|{C1}~0|+|{C3}~0|{C1}~1|+|{C1}~0|none~1|{C3}~2|",
    "pools and skips": f"|{POOL}~0|+|{SKIP}~0|{C1}~1|+|{C3}~0|{POOL}~1|{SKIP}~2|",
    "one convolution": f"|none~0|+|none~0|none~1|+|{C3}~0|none~1|none~2|",
}


def network_of(space, cell):
    torch.manual_seed(0)
    return space.build(space.parse(cell), input_shape=SHAPE, n_classes=4).to(memory_format=torch.channels_last)


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, *SHAPE, generator=generator), torch.arange(16) % 4


def learn(network, steps=2):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network.train()
    images, labels = batch()
    images = images.to(next(network.parameters()).dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("space", [NASBench201, NASBench201XNAS])
def test_what_its_training_form_learns_is_what_a_network_would_have_learned(space, cell):
    # in float64: batch norm amplifies the rounding of float32, which depends on the order of sums on busy cores
    network = network_of(space(channels=4, cells=2), cell).double()
    alone = learn(copy.deepcopy(network))

    form = learn(training_form(network))
    copy_weights_back(network, form)

    expected = alone.state_dict()
    assert network.state_dict().keys() == expected.keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_in_evaluation_too_the_form_computes_what_the_network_does(cell):
    network = learn(network_of(NASBench201(channels=4, cells=1), cell)).eval()
    images, _ = batch()
    torch.testing.assert_close(training_form(network)(images), network(images), atol=1e-5, rtol=1e-5)


def test_learning_in_its_form_leaves_a_network_as_it_is_until_the_weights_come_home():
    network = network_of(NASBench201(channels=4, cells=1), CELLS["six convolutions"])
    before = copy.deepcopy(network.state_dict())
    learn(training_form(network))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_six_convolutions_become_three_that_read_three_nodes():
    form = training_form(network_of(NASBench201(channels=4, cells=1), CELLS["six convolutions"]))
    cell = next(module for module in form.modules() if isinstance(module, TrainingCell))
    assert [m.out_channels for m in cell.modules() if isinstance(m, nn.Conv2d)] == [12, 8, 4]


def test_a_users_own_operations_stay_as_they_are():
    pool = {"_target_": "torch.nn.AvgPool2d", "kernel_size": 3, "stride": 1, "padding": 1}  # counts its padding
    space = CellSpace(nodes=2, operations={"pool": pool, "skip": {"_target_": "torch.nn.Identity"}}, channels=4)
    network = space.build((0,), input_shape=SHAPE, n_classes=4)
    form = training_form(network)
    images, _ = batch()
    assert torch.equal(form(images), network(images))
    assert not any(isinstance(module, ConvolvedAvgPool) for module in form.modules())


@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_by_convolution_is_pooling_for_values_and_gradients(side, dtype):
    n = MIN_CONVOLVED_NUMBERS // (4 * side * side) + 1
    values = torch.randn(n, 4, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    values = values.contiguous(memory_format=torch.channels_last)
    found = []
    for pool in (ConvolvedAvgPool(), nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)):
        maps = values.clone().requires_grad_()
        output = pool(maps)
        output.backward(values)
        found += [(output.detach(), maps.grad)]
    (output, gradient), (expected, expected_gradient) = found
    tolerance = {"atol": 1e-6, "rtol": 1e-5} if dtype is torch.float32 else {"atol": 0.02, "rtol": 0.01}
    torch.testing.assert_close(output, expected, **tolerance)
    torch.testing.assert_close(gradient, expected_gradient, **tolerance)
