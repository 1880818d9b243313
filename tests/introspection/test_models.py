"""Scores of networks that were not written for nasx."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.errors import DataError, SettingError
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.attributions import ShapScorer
from nasx.introspection.models import score
from nasx.introspection.probing import find_probes

from .networks import N_CLASSES, conv_block, labelled, staged_network, with_seeded_weights

QUICK = ShapScorer(samples_per_class=3, draws=4, background=4)


class Residual(nn.Module):
    """A block whose own modules are no cuts, since its shortcut passes them; works in place."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.conv(x))
        return F.relu(out + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Residual(4, 6))
        self.layer2 = nn.Sequential(Residual(6, 8))
        self.fc = nn.Linear(8, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.act1(self.bn1(self.conv1(x)))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Tokens with channels last, a class token, positions: whose shape is taken from the images' batch."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(8))
        self.head = nn.Linear(width, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


NETWORKS = {
    "stages": (staged_network, ["stem", "stage1", "stage2"]),
    "residual": (ResNet, ["act1", "layer1"]),
    "transformer": (Transformer, ["blocks.0", "blocks.2", "blocks.5"]),
    "wrapped": (
        lambda: nn.Sequential(OrderedDict(scale=nn.Identity(), model=ResNet())),
        ["model.act1", "model.layer1"],
    ),
}


def build(name: str) -> nn.Module:
    return with_seeded_weights(NETWORKS[name][0]())


def test_the_stages_of_our_own_networks_are_found_but_for_the_last():
    # stem and stage1 have one resolution: the last of it counts
    names = [probe.name for probe in find_probes(staged_network(), labelled()[0])]

    assert names == ["stage1", "stage2"]


@pytest.mark.parametrize("name", ["residual", "transformer", "wrapped"])
def test_cuts_are_found_where_nothing_is_known_of_the_network(name):
    probes = find_probes(build(name), labelled()[0])

    assert [probe.name for probe in probes] == NETWORKS[name][1]


@pytest.mark.parametrize("name", NETWORKS)
def test_body_and_tail_make_the_network(name):
    network, images = build(name), labelled()[0]

    with torch.no_grad():
        for probe in find_probes(network, images):
            torch.testing.assert_close(probe.tail(probe.body(images)), network(images))


def test_cutting_by_hooks_scores_what_cutting_by_slices_does():
    network, (images, labels) = staged_network(), labelled()
    by_slices = QUICK.score(network, images, labels, n_classes=N_CLASSES, seed=0)

    by_hooks = score(
        network,
        [(images, labels)],
        scorer=ShapScorer(samples_per_class=3, draws=4, background=4, probes=("stem", "stage1", "stage2")),
    )

    assert by_hooks.value == pytest.approx(by_slices.value, abs=1e-5)
    assert list(by_hooks.profile) == list(by_slices.profile)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scorer", [QUICK, ActivationScorer()])
def test_any_network_is_scored_and_left_as_it_was(name, scorer):
    network, (images, labels) = build(name).train(), labelled()
    before = copy.deepcopy(network.state_dict())

    result = score(network, zip(images.split(16), labels.split(16), strict=True), scorer=scorer)

    assert 0 < result.value < 2
    assert all(0 <= value <= 2 for value in result.profile.values())
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_at_most_max_images_are_taken():
    images, labels = labelled(40)

    result = score(staged_network(), [(images, labels)] * 3, scorer=ActivationScorer(), max_images=50)

    assert result.n_samples == 50


def test_a_module_beside_another_path_is_refused():
    with pytest.raises(
        SettingError, match=r"names 'layer1\.0\.conv', but its output alone does not determine the logits"
    ):
        find_probes(build("residual"), labelled()[0], ["layer1.0.conv"])


def test_an_unknown_module_is_named_with_the_nearest():
    with pytest.raises(SettingError, match=r"names 'layer3', which is no module .* once\. Did you mean layer"):
        find_probes(build("residual"), labelled()[0], ["layer3"])


def test_a_network_without_maps_has_no_probes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, N_CLASSES))

    with pytest.raises(SettingError, match="no module's output alone determines its logits"):
        find_probes(network, labelled()[0])


def test_data_that_do_not_fit_are_told():
    images, labels = labelled()

    with pytest.raises(DataError, match="labels must be from 0 to 3 for 4 logits, got 0 to 13"):
        score(staged_network(), [(images, labels + 10 * (labels == 3))])
    with pytest.raises(DataError, match="the data gave no batch"):
        score(staged_network(), [])
    with pytest.raises(DataError, match=r"must give logits \(n, n_classes\), got a tensor of shape \(1, 4, 8, 8\)"):
        score(conv_block(3, 4), [(images, labels)])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet10t", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 64}),
    ],
)
def test_models_of_timm_are_scored(name, settings):
    try:
        import timm
    except (ImportError, RuntimeError) as exc:  # torchvision, which it needs, may not fit the build of torch
        pytest.skip(f"timm does not load: {exc}")
    images, labels = labelled(size=64)
    model = timm.create_model(name, pretrained=False, num_classes=N_CLASSES, **settings)

    for scorer in (QUICK, ActivationScorer()):
        assert 0 < score(model, [(images, labels)], scorer=scorer).value < 2
