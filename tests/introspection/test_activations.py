"""Activation scores against values worked out by hand and an independent implementation."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor, nn

from nasx.errors import SettingError, TrialFailure
from nasx.introspection.activations import ActivationScorer, predict
from nasx.introspection.layers import observe_layers
from tests.factories.networks import N_CLASSES, labeled, seeded, staged_network


def by_hand(network: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    """Return the class distances of the concatenated activations, image by image: (N_CLASSES, N_CLASSES)."""
    vectors = []
    for image in images:
        maps: list[np.ndarray] = []
        with (
            torch.no_grad(),
            observe_layers(network, lambda _, out, maps=maps: maps.append(out.double().numpy().ravel())),
        ):
            network(image[None])
        vectors.append(np.concatenate(maps))
    means = [np.mean([v for v, y in zip(vectors, labels, strict=True) if y == c], axis=0) for c in range(N_CLASSES)]
    return squareform(pdist(np.array(means), "cosine"))


def identity_network() -> nn.Sequential:
    """Return a network of one 1x1 convolution that copies its two channels, and a linear head."""
    stem = nn.Conv2d(2, 2, 1, bias=False)
    stem.weight.data = torch.eye(2).view(2, 2, 1, 1)
    return nn.Sequential(OrderedDict(stem=stem, head=nn.Sequential(nn.Flatten(), nn.Linear(2, 2)))).eval()


def test_a_network_that_copies_its_input_scores_the_distance_of_the_input_means():
    images = torch.tensor([[2.0, 0], [4, 0], [3, 1], [3, 7]]).view(4, 2, 1, 1)  # class means (3, 0) and (3, 4)

    score = ActivationScorer().score(identity_network(), images, torch.tensor([0, 0, 1, 1]), n_classes=2, seed=0)

    assert score.value == pytest.approx(1 - 3 / 5)
    assert score.profile == {"stem": pytest.approx(1 - 3 / 5)}


@pytest.mark.parametrize("batch_size", [3, 256])
def test_the_score_is_that_of_the_independent_implementation(batch_size):
    network, (images, labels) = staged_network(), labeled()
    scorer = ActivationScorer(batch_size=batch_size)

    score = scorer.score(network.double(), images.double(), labels, n_classes=N_CLASSES, seed=0)

    reference = by_hand(network, images.double(), labels)
    np.testing.assert_allclose(score.distances, reference, rtol=0, atol=1e-9)
    assert score.value == pytest.approx(reference[np.triu_indices(N_CLASSES, 1)].mean(), abs=1e-9)
    assert score.n_samples == len(images)
    assert list(score.profile)[:2] == ["stem.0", "stem.2"]


def test_single_precision_changes_the_score_by_less_than_a_millionth():
    network, (images, labels) = staged_network(), labeled()

    single = ActivationScorer().score(network, images, labels, n_classes=N_CLASSES, seed=0).value
    double = ActivationScorer().score(network.double(), images.double(), labels, n_classes=N_CLASSES, seed=0).value

    assert single == pytest.approx(double, abs=1e-6)


def test_the_order_of_samples_does_not_matter():
    network, (images, labels) = staged_network(), labeled()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))

    scores = [
        ActivationScorer(batch_size=8).score(network, images[i], labels[i], n_classes=N_CLASSES, seed=0).value
        for i in (torch.arange(len(images)), order)
    ]

    assert scores[0] == pytest.approx(scores[1], abs=1e-7)


def test_predicted_groups_by_the_predicted_class():
    network, (images, labels) = staged_network(), labeled()
    predictions = predict(network, images, batch_size=16)
    assert not torch.equal(predictions, labels)

    predicted = ActivationScorer(group_by="predicted").score(network, images, labels, n_classes=N_CLASSES, seed=0)
    true = ActivationScorer().score(network, images, predictions, n_classes=N_CLASSES, seed=0)

    np.testing.assert_array_equal(predicted.distances, true.distances)


def test_balanced_is_the_mean_over_layers():
    network, (images, labels) = staged_network(), labeled()

    score = ActivationScorer(layer_balanced=True).score(network, images, labels, n_classes=N_CLASSES, seed=0)

    assert score.value == pytest.approx(np.mean(list(score.profile.values())))


def test_dead_branches_do_not_count():
    class WithDeadBranch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.live, self.dead = staged_network(), nn.Conv2d(3, 50, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.dead(x)
            return self.live(x)

    images, labels = labeled()

    padded = ActivationScorer().score(WithDeadBranch().eval(), images, labels, n_classes=N_CLASSES, seed=0)
    plain = ActivationScorer().score(staged_network(), images, labels, n_classes=N_CLASSES, seed=0)

    assert padded.value == plain.value


def test_at_most_max_samples_are_used_chosen_by_the_seed():
    network, (images, labels) = staged_network(), labeled()
    scorer = ActivationScorer(max_samples=20)

    values = [scorer.score(network, images, labels, n_classes=N_CLASSES, seed=seed) for seed in (1, 1, 2)]

    assert [v.n_samples for v in values] == [20, 20, 20]
    assert values[0].value == values[1].value != values[2].value


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "activations"),
        ({"group_by": "predicted"}, "activations_predicted"),
        ({"layer_balanced": True}, "activations_balanced"),
        ({"group_by": "predicted", "layer_balanced": True}, "activations_predicted_balanced"),
    ],
)
def test_the_name_records_the_variant(settings, name):
    assert ActivationScorer(**settings).name == name


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (seeded(0, 8, 3, 8, 8), torch.full((8,), 2), "no pair of the 4 classes has a distance"),
        (torch.zeros(8, 3, 8, 8), torch.arange(8) % 4, "activations: no "),  # every activation is zero
        (torch.full((8, 3, 8, 8), torch.nan), torch.arange(8) % 4, "no pair of the 4 classes"),
    ],
)
def test_without_distances_there_is_no_score(images, labels, why):
    network = staged_network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.zero_()

    with pytest.raises(TrialFailure, match=why) as failure:
        ActivationScorer().score(network, images, labels, n_classes=N_CLASSES, seed=0)

    assert failure.value.reason == "no_score"


def test_a_network_without_layers_of_interest_has_no_score():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, N_CLASSES))

    with pytest.raises(TrialFailure, match="no convolution or activation reaches the logits"):
        ActivationScorer().score(network, *labeled(), n_classes=N_CLASSES, seed=0)


def test_network_and_generators_are_left_unchanged():
    network, (images, labels) = staged_network().train(), labeled()
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002

    ActivationScorer(max_samples=20).score(network, images, labels, n_classes=N_CLASSES, seed=0)

    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert network.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize("name", ["max_samples", "batch_size"])
def test_settings_are_checked(name):
    with pytest.raises(SettingError, match=f"{name} must be at least 1, got 0"):
        ActivationScorer(**{name: 0})
