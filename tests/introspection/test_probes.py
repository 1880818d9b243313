"""Places in a network where it is cut in two: which modules they are after, and what the two parts compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nasx.errors import SettingError
from nasx.introspection.probes import FeatureMap, _cuts, find_probes, probe_at

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


def plain() -> nn.Sequential:
    """Return a network with three levels of resolution."""
    body = (convolution(3, 4), convolution(4, 4, 2), convolution(4, 8, 2), convolution(8, 8))
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


@pytest.mark.parametrize(
    ("shape", "channel_dim", "size"),
    [
        ((2, 6, 4, 4), 1, 16),
        ((2, 6, 4, 2), 1, 8),
        ((2, 4, 4, 6), 3, 16),  # channels last
        ((2, 4, 4, 4), 1, 16),  # nothing tells: as torch has it
        ((2, 4, 6, 6), 1, 36),
        ((2, 9, 8), 2, 9),  # tokens
        ((2, 7, 5, 4, 3), 1, 60),
    ],
)
def test_the_channels_of_a_feature_map_are_known_by_its_shape(shape, channel_dim, size):
    found = FeatureMap("a", torch.zeros(shape), 0, 0)

    assert (found.channel_dim, found.size) == (channel_dim, size)


def test_probes_are_after_the_last_module_of_each_resolution_but_the_coarsest():
    network = plain()

    probes = find_probes(network, IMAGES)

    assert [probe.name for probe in probes] == ["0", "1"]
    with torch.no_grad():
        for probe in probes:
            assert torch.allclose(probe.tail(probe.body(IMAGES)), network(IMAGES), atol=1e-6)
            assert torch.allclose(probe.body(IMAGES), network[: int(probe.name) + 1](IMAGES))


def test_the_tail_depends_on_the_feature_map_only():
    network = plain()
    probe = probe_at(network, "1", IMAGES[:1])

    with torch.no_grad():
        changed = probe.tail(2 * network[:2](IMAGES))

        assert torch.allclose(changed, network[2:](2 * network[:2](IMAGES)), atol=1e-6)


class TwoPaths(nn.Module):
    """Network with a module that some of the information goes around."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.head = convolution(3, 4), convolution(4, 4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = features + self.side(features)
        return self.head(features.mean(dim=(2, 3)))


class Picky(TwoPaths):
    """A network that raises if its paths have different numbers of images."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        side = self.side(features)
        assert len(side) == len(features)
        return self.head(torch.cat([features, side]).mean(dim=(2, 3))[: len(images)])


@pytest.mark.parametrize("network", [TwoPaths(), Picky()])
def test_a_module_that_another_path_goes_around_is_no_cut(network):
    with pytest.raises(SettingError, match=r"every path to the logits goes through, got 'side'"):
        find_probes(network.eval(), IMAGES, ["side"])


@pytest.mark.parametrize("name", ["6", "5", "nothing"])
def test_only_modules_with_a_feature_map_can_be_named(name):
    with pytest.raises(SettingError, match=rf"run once and return a feature map, got '{name}'"):
        find_probes(plain(), IMAGES, [name])


def test_a_module_that_runs_twice_cannot_be_named():
    again = convolution(4, 4)
    network = nn.Sequential(convolution(3, 4), again, again, nn.Flatten(), nn.Linear(4 * 256, 5)).eval()

    with pytest.raises(SettingError, match=r"run once"):
        find_probes(network, IMAGES, ["1"])


def test_a_network_of_one_resolution_is_probed_at_quarters_of_its_depth():
    body = [convolution(3, 4), *(convolution(4, 4) for _ in range(7))]
    network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()

    found = [probe.name for probe in find_probes(network, IMAGES)]

    # the fall of the resolution at the pooling is the only one: too few
    assert found == ["1", "3", "5"]


def test_a_network_without_a_feature_map_has_no_probes():
    with pytest.raises(SettingError, match=r"no single module output determines its logits"):
        find_probes(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5)).eval(), IMAGES)


class Block(nn.Module):
    """A module of the user that is no container: its parts are not looked at by default."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, images):
        return self.activation(self.convolution(images))


def test_parts_of_modules_that_are_no_containers_are_cuts_only_if_asked_for():
    network = nn.Sequential(
        Block(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.LazyLinear(2)
    ).eval()
    images = torch.rand(2, 3, 6, 6)
    network(images)

    assert [cut.name for cut in _cuts(network, images, deep=False)] == ["0", "1.0", "1"]
    assert [cut.name for cut in _cuts(network, images, deep=True)] == ["0.convolution", "0", "1.0", "1"]
