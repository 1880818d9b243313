"""Scores of networks that are not built by nasx."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nasx
from nasx.errors import DataError, SettingError
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.probes import find_probes
from nasx.introspection.score_model import SCORERS, score
from nasx.introspection.shap import ShapScorer
from tests.factories.networks import N_CLASSES, conv_block, labeled, staged_network, with_seeded_weights

QUICK = ShapScorer(samples_per_class=3, draws=4, background=4)


class Residual(nn.Module):
    """Residual block: its modules are not cuts, because of the shortcut; works in place."""

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
    """Vision transformer: channels last, with a class token expanded to the size of the batch."""

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


def test_default_probes_of_a_staged_network_exclude_the_last_stage():
    # stem and stage1 have the same resolution: the probe is after the last of them
    names = [probe.name for probe in find_probes(staged_network(), labeled()[0])]

    assert names == ["stage1", "stage2"]


@pytest.mark.parametrize("name", ["residual", "transformer", "wrapped"])
def test_cuts_are_found_in_any_network(name):
    probes = find_probes(build(name), labeled()[0])

    assert [probe.name for probe in probes] == NETWORKS[name][1]


@pytest.mark.parametrize("name", NETWORKS)
def test_body_and_tail_compute_the_network(name):
    network, images = build(name), labeled()[0]

    with torch.no_grad():
        for probe in find_probes(network, images):
            torch.testing.assert_close(probe.tail(probe.body(images)), network(images))


def test_cuts_by_hooks_and_by_slices_have_the_same_score():
    network, (images, labels) = staged_network(), labeled()
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
def test_any_network_is_scored_and_left_unchanged(name, scorer):
    network, (images, labels) = build(name).train(), labeled()
    before = copy.deepcopy(network.state_dict())

    result = score(network, zip(images.split(16), labels.split(16), strict=True), scorer=scorer)

    assert 0 < result.value < 2
    assert all(0 <= value <= 2 for value in result.profile.values())
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_at_most_max_images_are_used():
    images, labels = labeled(40)

    result = score(staged_network(), [(images, labels)] * 3, scorer=ActivationScorer(), max_images=50)

    assert result.n_samples == 50


def test_a_module_parallel_to_another_path_is_rejected():
    with pytest.raises(
        SettingError, match=r"probes must be modules that every path to the logits goes through, got 'layer1\.0\.conv'$"
    ):
        find_probes(build("residual"), labeled()[0], ["layer1.0.conv"])


def test_an_unknown_module_is_reported_with_the_most_similar_name():
    with pytest.raises(SettingError, match=r"must be modules that run once .*, got 'layer3'\. Did you mean layer"):
        find_probes(build("residual"), labeled()[0], ["layer3"])


def test_a_network_without_maps_has_no_probes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, N_CLASSES))

    with pytest.raises(SettingError, match="no single module output determines its logits"):
        find_probes(network, labeled()[0])


def test_data_that_do_not_fit_are_reported():
    images, labels = labeled()

    with pytest.raises(DataError, match="labels must be from 0 to 3 for 4 logits, got 0 to 13"):
        score(staged_network(), [(images, labels + 10 * (labels == 3))])
    with pytest.raises(DataError, match="no images: the data have no batch"):
        score(staged_network(), [])
    with pytest.raises(DataError, match=r"must return logits \(n, n_classes\), got a tensor of shape \(1, 4, 8, 8\)"):
        score(conv_block(3, 4), [(images, labels)])


class Regression(nn.Module):
    """Model with one number per image."""

    def __init__(self, *, flat: bool = False) -> None:
        super().__init__()
        self.stem, self.stage1, self.stage2 = conv_block(3, 4), conv_block(4, 6, stride=2), conv_block(6, 8, stride=2)
        self.out = nn.Linear(8, 1)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(self.stage2(self.stage1(self.stem(x))).mean(dim=(2, 3)))
        return y[:, 0] if self.flat else y


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("scorer", ["shap", "activations"])
def test_a_regression_is_scored_by_bins_of_its_targets(scorer, flat):
    images, labels = labeled(48)
    model = with_seeded_weights(Regression(flat=flat))

    result = score(model, (images, labels + 0.25 * torch.arange(48) / 48), scorer=scorer, bins=3)

    assert result.distances.shape == (3, 3)
    assert 0 < result.value < 2
    assert not model._forward_hooks


def test_the_explained_output_of_a_regression_is_its_number():
    images, labels = labeled(48)
    model = with_seeded_weights(Regression())

    result = score(model, (images, labels.float()), scorer=ShapScorer(samples_per_class=16, draws=200), bins=3)

    assert result.completeness_error < 0.1


def test_a_regression_has_no_predicted_class():
    images, labels = labeled(8)
    with pytest.raises(SettingError, match="must group by the true target for a regression, got activations_predicted"):
        score(Regression(), (images, labels.float()), scorer="activations_predicted", bins=3)
    with pytest.raises(SettingError, match="bins must be at least 2, got 1"):
        score(Regression(), (images, labels.float()), bins=1)
    with pytest.raises(DataError, match="for a regression set the number of `bins` of its targets"):
        score(Regression(), (images, labels.float()))
    with pytest.raises(DataError, match=r"must return one number per image, got a tensor of shape \(1, 4\)"):
        score(staged_network(), (images, labels.float()), bins=3)


class Wrapped(nn.Module):
    """Model that returns its logits as other libraries do: in a record or first in a tuple."""

    def __init__(self, form: type) -> None:
        super().__init__()
        self.model, self.form = staged_network(), form

    def forward(self, x: Tensor) -> object:
        logits = self.model(x)
        return SimpleNamespace(logits=logits, loss=None) if self.form is SimpleNamespace else (logits, x)


@pytest.mark.parametrize("form", [SimpleNamespace, tuple])
@pytest.mark.parametrize("scorer", ["shap", "activations"])
def test_logits_are_found_in_the_outputs_of_other_libraries(form, scorer):
    images, labels = labeled()
    plain = score(staged_network(), (images, labels), scorer=scorer)

    wrapped = score(Wrapped(form), (images, labels), scorer=scorer)

    assert wrapped.value == pytest.approx(plain.value, abs=1e-6)


@pytest.mark.parametrize("name", SCORERS)
def test_every_variant_is_recorded_under_its_name_in_scorers(name):
    images, labels = labeled()

    assert score(staged_network(), (images, labels), scorer=name).scorer == name


def test_variants_differ_as_their_names_say():
    images, labels = labeled()
    network = staged_network()
    with torch.no_grad():
        predicted = network(images).argmax(dim=1)

    by_true, by_predicted = (
        score(network, (images, groups), scorer="activations").distances for groups in (labels, predicted)
    )
    assert np.array_equal(
        score(network, (images, labels), scorer="activations_predicted").distances, by_predicted, equal_nan=True
    )
    assert not np.allclose(by_true, by_predicted, equal_nan=True)
    balanced = score(network, (images, labels), scorer="activations_balanced")
    assert balanced.value == pytest.approx(np.mean(list(balanced.profile.values())), abs=1e-9)


def test_only_the_named_layers_are_observed():
    images, labels = labeled()

    assert list(score(staged_network(), (images, labels), layers=["stem", "stage2"]).profile) == ["stem", "stage2"]
    at_stage1 = score(staged_network(), (images, labels), scorer="activations", layers=["stage1"])
    assert list(at_stage1.profile) == ["stage1.0", "stage1.2"]
    with pytest.raises(SettingError, match=r"layers must be modules with a conv.*, got 'stage4'\. Did you mean stage"):
        score(staged_network(), (images, labels), scorer="activations", layers=["stage4"])
    with pytest.raises(SettingError, match="layers can be set only for a scorer given by name"):
        score(staged_network(), (images, labels), scorer=QUICK, layers=["stem"])
    with pytest.raises(SettingError, match=r"scorer must be a known scorer, got 'sharp'\. Did you mean shap\?"):
        score(staged_network(), (images, labels), scorer="sharp")


@pytest.mark.parametrize("kind", ["arrays", "float64", "batches", "loader"])
def test_data_are_arrays_or_batches(kind):
    images, labels = labeled()
    data = {
        "arrays": (images.numpy(), labels.numpy()),
        "float64": (images.double().numpy(), labels.int().numpy()),
        "batches": [(images[:20], labels[:20]), (images[20:], labels[20:])],
        "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=16),
    }[kind]

    assert score(staged_network(), data).value == score(staged_network(), (images, labels)).value


def test_a_score_is_shown_as_text():
    images, labels = labeled()
    result = score(staged_network(), (images, labels), class_names=["ant", "bee", "cow", "dog"])

    first, *layers, closest, farthest = repr(result).splitlines()
    assert first.startswith(f"introspectability {result.value:.3f} by shap (40 images, 6 pairs of classes, compl")
    assert [line.split()[0] for line in layers] == list(result.profile)
    a, b, distance = result.pairs()[0]
    assert closest == f"closest  {a} and {b}: {distance:.3f}"
    assert farthest.split()[0] == "farthest"
    with pytest.raises(FrozenInstanceError):
        result.value = 1.0
    with pytest.raises(DataError, match="expected 4 class names, one per logit, got 3"):
        score(staged_network(), (images, labels), class_names=["ant", "bee", "cow"])


def test_images_that_do_not_fit_the_model_are_reported():
    with pytest.raises(DataError, match=r"the model fails for images of shape \(1, 8, 8\): .*channels"):
        score(staged_network(), (torch.zeros(4, 1, 8, 8), torch.arange(4)))
    with pytest.raises(DataError, match=r"a batch has 4 images, but labels of shape \(3,\)"):
        score(staged_network(), (torch.zeros(4, 3, 8, 8), torch.arange(3)))
    with pytest.raises(DataError, match=r"each batch must be a pair \(images, labels\), got a tensor of shape"):
        score(staged_network(), torch.zeros(4, 3, 8, 8))


def test_nasx_score_is_loaded_on_first_use():
    assert nasx.score is score
    assert {"score", "debug"} <= set(dir(nasx))
    with pytest.raises(AttributeError, match="module 'nasx' has no attribute 'scores'"):
        _ = nasx.scores
