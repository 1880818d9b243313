"""Networks of monai and timm, built without downloads, scored by both scorers."""

from __future__ import annotations

import copy

import pytest
import torch

from nasx.introspection.activations import ActivationScorer
from nasx.introspection.probes import find_probes
from nasx.introspection.score_model import score, unwrap_logits
from nasx.introspection.shap import ShapScorer
from tests.factories.networks import N_CLASSES, labeled

QUICK = ShapScorer(samples_per_class=2, draws=2, background=4)


def resnet(nets):
    """Residual; ReLU in place, one module used twice per block."""
    return nets.ResNet(
        "basic",
        [1, 1, 1, 1],
        [8, 8, 16, 16],
        spatial_dims=2,
        n_input_channels=3,
        num_classes=N_CLASSES,
        conv1_t_stride=1,
    )


def densenet(nets):
    """Concatenations in place of sums."""
    return nets.DenseNet(
        spatial_dims=2, in_channels=3, out_channels=N_CLASSES, init_features=8, growth_rate=4, block_config=(2, 2, 2)
    )


def efficientnet(nets):
    """Depthwise-separable convolutions, squeeze and excitation, an activation with a custom backward."""
    return nets.EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3, num_classes=N_CLASSES
    )


def vision_transformer(nets):
    """Tokens (n, tokens, channels); returns a tuple of logits and hidden states."""
    return nets.ViT(
        3, (32, 32), (8, 8), hidden_size=16, mlp_dim=32, num_layers=6, num_heads=2, classification=True,
        num_classes=N_CLASSES, spatial_dims=2, post_activation=None,
    )  # fmt: skip


NETWORKS = [resnet, densenet, efficientnet, vision_transformer]


@pytest.fixture(scope="module")
def nets():
    return pytest.importorskip("monai.networks.nets", reason="monai, of the dev extra, is not installed")


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda make: make.__name__)
def model(request, nets):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return request.param(nets).eval()


@pytest.fixture(scope="module")
def data():
    return labeled(24, size=32)


def test_body_and_tail_of_each_probe_return_the_logits(model, data):
    with unwrap_logits(model), torch.no_grad():
        probes = find_probes(model, data[0])
        for probe in probes:
            torch.testing.assert_close(probe.tail(probe.body(data[0])), model(data[0]), rtol=1e-3, atol=1e-3)
    assert len(probes) >= 2


@pytest.mark.parametrize("scorer", [QUICK, ActivationScorer()])
def test_the_model_is_scored_and_left_unchanged(model, data, scorer):
    before = copy.deepcopy(model.state_dict())

    result = score(model, data, scorer=scorer)

    assert 0 < result.value < 2
    assert len(result.profile) >= 2
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet10t", {}),
        ("mobilenetv2_035", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 64}),
    ],
)
def test_models_of_timm_are_scored(name, settings):
    try:
        import timm
    except (ImportError, RuntimeError) as exc:  # torchvision, which it needs, may not fit the build of torch
        pytest.skip(f"timm does not load: {exc}")
    images, labels = labeled(size=64)
    model = timm.create_model(name, pretrained=False, num_classes=N_CLASSES, **settings)

    for scorer in (QUICK, ActivationScorer()):
        assert 0 < score(model, [(images, labels)], scorer=scorer).value < 2
