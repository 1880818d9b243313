"""Layers of interest are found in any network, dead layers are excluded, the network is left unchanged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.introspection.layers import evaluation_mode, live_layers, observe_layers
from tests.factories.networks import labeled, seeded, staged_network


def names_of(network: nn.Module, images: Tensor) -> list[str]:
    names: list[str] = []
    with torch.no_grad(), observe_layers(network, lambda name, _: names.append(name)):
        network(images)
    return names


class Functional(nn.Module):
    """Network with functional activations, a module used twice, a dead branch, and a branch multiplied by zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.shared = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(4, 4, 1)
        self.zeroed = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.conv(x))
        x = F.gelu(x)
        self.unused(x).sigmoid()
        x = self.shared(x + 0 * self.zeroed(x)).tanh()
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


FUNCTIONAL_LAYERS = ["conv", "shared", "gelu", "shared#2", "tanh"]


def test_only_convolutions_and_activations_are_observed():
    expected = [f"{stage}.{i}" for stage in ("stem", "stage1", "stage2", "stage3") for i in (0, 2)]

    assert names_of(staged_network(), labeled(4)[0]) == expected


def test_functional_activations_and_repeated_modules_have_different_names():
    names = names_of(Functional().eval(), seeded(0, 2, 3, 6, 6))

    assert names == ["conv", "shared", "gelu", "unused", "sigmoid", "zeroed", "shared#2", "tanh"]


def test_layers_without_effect_on_the_logits_are_dead():
    assert live_layers(Functional(), seeded(0, 8, 3, 6, 6)) == FUNCTIONAL_LAYERS


def test_no_layer_is_dead_because_of_a_final_softmax():
    network = nn.Sequential(staged_network(), nn.Softmax(dim=1))

    assert len(live_layers(network, labeled(8)[0])) == 8


def test_the_network_is_left_unchanged():
    network = staged_network().train()
    network.stem[1].eval()
    network.stage1[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()

    live_layers(network, labeled(8)[0])

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert [m.training for m in (network, network.stem[0], network.stem[1])] == [True, True, False]
    assert [p.requires_grad for p in network.parameters()].count(False) == 1
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_the_network_is_left_unchanged_when_a_pass_fails():
    network = staged_network().train()

    with (
        pytest.raises(RuntimeError, match="channels"),
        evaluation_mode(network),
        observe_layers(network, lambda *_: None),
    ):
        network(seeded(0, 2, 5, 8, 8))

    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_evaluation_mode_sets_a_gpu_to_deterministic_float32():
    cudnn = torch.backends.cudnn

    def settings():
        return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, torch.get_float32_matmul_precision()

    before = settings()
    with evaluation_mode(nn.Linear(2, 2)):
        assert settings() == (False, True, False, "highest")
    assert settings() == before


class FirstLogitOnly(nn.Module):
    """Network whose second layer affects the first logit only."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.special = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.common(images)
        rest = features.mean(dim=(2, 3))
        return torch.cat([self.special(features).mean(dim=(2, 3)), rest, rest.sum(dim=1, keepdim=True)], dim=1)


def test_a_layer_that_reaches_the_first_logit_only_is_alive():
    assert live_layers(FirstLogitOnly().eval(), torch.ones(2, 1, 8, 8)) == ["common", "special"]
