"""Stages of any network: they compute what the network computes, and are cut where everything depends on the maps."""

from __future__ import annotations

import copy
import pickle
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasx.backbones.model_stages import split
from nasx.errors import SettingError
from tests.factories.model_libraries import Functional, ResNet, Tokens
from tests.factories.networks import seeded, with_seeded_weights


def sequential() -> nn.Sequential:
    widths = ((3, 4), (4, 6), (6, 8))
    blocks = [[nn.Conv2d(c, d, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)] for c, d in widths]
    return nn.Sequential(*chain(*blocks), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("build", "names", "channels"),
    [
        (ResNet, ("relu", "layer1", "layer2", "layer3"), (4, 6, 8, 8)),
        (Functional, ("relu", "relu_1", "relu_2"), (4, 6, 8)),
        (sequential, ("module1", "module4", "module8"), (4, 6, 8)),
    ],
)
def test_a_network_is_cut_at_the_end_of_each_level_of_resolution(build, names, channels):
    stages = split(build(), "mine", 32)

    assert tuple(name for name, _ in stages.named_children()) == names
    maps, found = seeded(0, 1, 3, 64, 48), []
    for stage in stages:
        maps = stage(maps)
        found.append(maps.shape[1])
    assert tuple(found) == channels


def test_the_stages_compute_the_maps_of_the_network_at_any_size():
    network = ResNet().eval()
    stages = split(copy.deepcopy(network), "mine", 32)

    for size in ((32, 32), (48, 80), (224, 224)):
        images = seeded(1, 2, 3, *size)
        torch.testing.assert_close(stages(images), network.forward_features(images))


def test_stages_do_not_change_their_input_in_place():
    stages, maps = split(sequential(), "mine", 32), seeded(0, 1, 3, 32, 32)

    for stage in stages:
        before = maps.clone()
        after = stage(maps)
        assert torch.equal(maps, before)
        maps = after


def test_stages_are_frozen_in_evaluation_mode_and_share_no_module():
    stages = split(ResNet(), "mine", 32)

    assert not any(parameter.requires_grad for parameter in stages.parameters())
    assert not any(module.training for module in stages.modules())
    modules = [{id(module) for module in stage.modules()} for stage in stages]
    assert not any(a & b for i, a in enumerate(modules) for b in modules[:i])


def test_stages_can_be_exported_copied_and_pickled():
    stages, images = split(ResNet(), "mine", 32), seeded(0, 2, 3, 32, 32)

    exported = torch.export.export(stages, (images,)).module()

    for again in (exported, copy.deepcopy(stages), pickle.loads(pickle.dumps(stages))):
        torch.testing.assert_close(again(images), stages(images))


def test_weights_of_16_bits_become_32_bits():
    assert {parameter.dtype for parameter in split(ResNet().half(), "mine", 32).parameters()} == {torch.float32}


def test_a_module_that_checks_its_input_stays_whole():
    class Checking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, 2, 1)

        def forward(self, x):
            if x.shape[1] != 3:
                raise ValueError
            return self.conv(x)

    network = nn.Sequential(Checking(), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))

    assert [name for name, _ in split(network, "mine", 32).named_children()] == ["module0", "module1", "module2"]


def test_maps_with_the_channels_last_become_maps_with_the_channels_first():
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(c, d, 2, 2) for c, d in ((3, 4), (4, 5), (5, 6)))
            self.norms = nn.ModuleList(nn.LayerNorm(d) for d in (4, 5, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            x = x.permute(0, 2, 3, 1)
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = norm(conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
            return self.head(x.mean((1, 2)))

    stages = split(ChannelsLast(), "mine", 32)

    maps = seeded(0, 1, 3, 32, 48)
    shapes = [tuple((maps := stage(maps)).shape) for stage in stages]
    assert shapes == [(1, 4, 16, 24), (1, 5, 8, 12), (1, 6, 4, 6)]


class OneSizeOnly(nn.Module):
    """Adds numbers at each of 8 x 8 positions, as a position embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.positions = nn.Parameter(torch.ones(1, 4, 8, 8))
        self.out = nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x):
        return self.out(self.conv(x) + self.positions)


def test_a_network_for_one_size_refuses_others_by_the_setting_to_change():
    stages = split(OneSizeOnly(), "mine", 16)

    assert stages(seeded(0, 1, 3, 16, 16)).shape == (1, 4, 4, 4)
    with pytest.raises(SettingError, match=r"^dataset\.image_size must be 16: mine reads no images of another size$"):
        stages(seeded(0, 1, 3, 32, 32))


def test_a_network_for_one_size_that_no_image_can_have_is_refused():
    network = OneSizeOnly()
    network.positions = nn.Parameter(torch.ones(1, 4, 120, 120))
    with pytest.raises(SettingError, match=r"cannot use mine: it reads only images of 240 x 240 .* at most 224 x 224$"):
        split(network, "mine", 240)


class Untraceable(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Gray(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.conv(x)


class Growing(nn.Module):
    """Reads only images that are larger than any that it is tried on."""

    def forward(self, x):
        return F.conv2d(x, torch.ones(1, 3, 300, 300))


def not_finite() -> nn.Module:
    network = ResNet()
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] = float("nan")
    return network


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Tokens, r"cannot cut mine into stages: it has no point with feature maps"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), r"it has no point with feature maps"),
        (Untraceable, r"torch\.fx cannot trace it \(TraceError: symbolically traced"),
        (Gray, r"must read color images \(3 channels\): mine reads gray ones"),
        (Growing, r"it fails on a color image of 32 x 32 pixels \(RuntimeError: "),
        (not_finite, r"its output is not of finite numbers; check its weights"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), r"it has lazy modules"),
    ],
    ids=["tokens", "no maps", "untraceable", "gray", "too large", "not finite", "lazy"],
)
def test_a_network_that_cannot_be_cut_is_refused_in_one_line(build, message):
    with pytest.raises(SettingError, match=message) as caught:
        split(build(), "mine", 32)

    assert str(caught.value).startswith("space.backbone ")
    assert str(caught.value).isprintable()


def test_stages_that_compute_something_else_are_refused():
    class Changing(nn.Module):
        """Multiplies by a number that depends on how often it was called."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.conv(x) * self.calls

    with pytest.raises(SettingError, match=r"cannot cut mine into stages: the stages compute other feature maps"):
        split(with_seeded_weights(Changing()), "mine", 32)
