"""SHAP values against closed forms, completeness and the explainer of shap; the contract of the scorer."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

import numpy as np
import pytest
import shap
import torch
from torch import Tensor, nn

from nasx.errors import SettingError, TrialFailure
from nasx.introspection.shap import (
    Paths,
    ShapScorer,
    channel_sums,
    completeness_error,
    draw_paths,
    expected_gradients,
    stage_probes,
)
from tests.factories.networks import N_CLASSES, labeled, seeded, staged_network


def paths(n: int, draws: int, background: int, seed: int = 0) -> Paths:
    return draw_paths(n, draws, background, generator=torch.Generator().manual_seed(seed))


def draws_of_shap(n: int, draws: int, background: int, seed: int) -> Paths:
    """Return the draws of shap.GradientExplainer: index and position in turn, from numpy's global generator."""
    state = np.random.RandomState(seed)
    pairs = [[(state.choice(background), state.uniform()) for _ in range(draws)] for _ in range(n)]
    table = torch.tensor(pairs, dtype=torch.float64)
    return Paths(table[..., 0].long(), table[..., 1])


def linear_tail(weights: Tensor) -> nn.Sequential:
    """Flattened activations times weights, (n_classes, n_features)."""
    linear = nn.Linear(weights.shape[1], weights.shape[0])
    linear.weight.data, linear.bias.data = weights.clone(), seeded(9, len(weights))
    return nn.Sequential(nn.Flatten(), linear)


def test_values_of_a_linear_tail_are_weight_times_distance_from_the_background():
    weights = torch.tensor([[1.0, 2, 3, 4], [0, -1, 5, 2]])
    activations, background = torch.tensor([[1.0, 0, 2, 1], [3, 3, 0, 0]]), torch.tensor([[1.0, 1, 1, 1], [3, 1, 1, 3]])

    values = expected_gradients(
        linear_tail(weights), activations, background, torch.tensor([0, 1]), paths(2, 4, 2), batch_size=3
    )

    # mean background (2, 1, 1, 2): [1 * (1-2), 2 * (0-1), 3 * (2-1), 4 * (1-2)], [0, -1 * (3-1), 5 * (0-1), 2 * (0-2)]
    torch.testing.assert_close(values, torch.tensor([[-1.0, -2, 3, -4], [0, -2, -5, -4]]))


def test_values_of_a_square_are_those_of_its_integral():
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**2).flatten(1).sum(dim=1, keepdim=True)

    a, b = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, -1.0]])
    positions = torch.tensor([[0.25, 0.75]])  # the midpoint rule is exact for the linear gradient

    values = expected_gradients(
        Square(), a, b, torch.tensor([0]), Paths(torch.zeros(1, 2, dtype=torch.long), positions), batch_size=8
    )

    torch.testing.assert_close(values, torch.tensor([[9.0 - 1, 1.0 - 1]]))


@pytest.mark.parametrize("probe", [0, 1, 2])
def test_values_equal_those_of_shap_on_the_same_draws(probe):
    network, (images, labels) = staged_network(), labeled()
    cut = stage_probes(network)[probe]
    with torch.no_grad():
        activations, background = cut.body(images[:6]), cut.body(images[30:35])

    state = np.random.get_state()  # noqa: NPY002
    reference = shap.GradientExplainer(cut.tail, background).shap_values(activations, nsamples=8, rseed=5)
    np.random.set_state(state)  # noqa: NPY002
    reference = np.stack([reference[i, ..., y] for i, y in enumerate(labels[:6])])
    units = expected_gradients(
        cut.tail, activations, background, labels[:6], draws_of_shap(6, 8, 5, seed=5), batch_size=7
    )
    channels = expected_gradients(
        cut.tail,
        activations,
        background,
        labels[:6],
        draws_of_shap(6, 8, 5, seed=5),
        batch_size=7,
        reduce=channel_sums,
    )

    scale = np.abs(reference).max()
    np.testing.assert_allclose(units, reference, rtol=1e-4, atol=1e-4 * scale)
    np.testing.assert_allclose(channels, reference.sum(axis=(2, 3)), rtol=1e-4, atol=1e-4 * scale)


def gaps(network: nn.Module, images: Tensor, background: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return (network(images) - network(background).mean(dim=0))[torch.arange(len(images)), targets]


@pytest.mark.parametrize("probe", [0, 1, 2])
def test_values_sum_to_the_gap_between_logits(probe):
    network, (images, labels) = staged_network().double(), labeled()
    images = images.double()
    cut = stage_probes(network)[probe]
    with torch.no_grad():
        activations, background = cut.body(images[:8]), cut.body(images[32:])

    values = expected_gradients(
        cut.tail, activations, background, labels[:8], paths(8, 800, 8), batch_size=512, reduce=channel_sums
    )

    assert completeness_error([values], gaps(network, images[:8], images[32:], labels[:8])) < 0.01


def independent_paths(n_samples: int, n_draws: int, n_background: int, *, generator: torch.Generator) -> Paths:
    """Return independent draws, as in the textbook."""
    background = torch.randint(n_background, (n_samples, n_draws), generator=generator)
    return Paths(background, torch.rand(n_samples, n_draws, generator=generator))


def test_spread_draws_come_nearer_to_completeness_than_independent_ones():
    network, (images, labels) = staged_network(), labeled()
    gap = gaps(network, images[:24], images[32:], labels[:24])

    def error(draw) -> float:
        drawn = draw(24, 16, 8, generator=torch.Generator().manual_seed(0))
        values = expected_gradients(network, images[:24], images[32:], labels[:24], drawn, batch_size=128)
        return completeness_error([values], gap)

    assert error(draw_paths) < 0.9 * error(independent_paths)


def test_the_completeness_error_worked_out_by_hand():
    first, second = torch.tensor([[1.0, 1], [2, 0]]), torch.tensor([[3.0, 0], [0, 1]])

    # sums (2, 2) and (3, 1), gaps (3, -1): errors (1, 3) and (0, 2)
    assert completeness_error([first, second], torch.tensor([3.0, -1])) == pytest.approx((2 + 1) / 2 / 2)
    # each layer with its own gaps: (2, 2) against (3, -1), (3, 1) against (3, 3)
    own = torch.tensor([[3.0, -1], [3, 3]])
    assert completeness_error([first, second], own) == pytest.approx((1 + 3 + 0 + 2) / 4 / 2.5)
    assert completeness_error([torch.zeros(2, 3)], torch.zeros(2)) == 0
    assert completeness_error([first], torch.zeros(2)) == math.inf


def test_the_batch_size_does_not_matter():
    network, (images, labels) = staged_network(), labeled()

    scores = [
        ShapScorer(samples_per_class=3, draws=4, batch_size=b)
        .score(network, images, labels, n_classes=N_CLASSES, seed=0)
        .value
        for b in (5, 17, 1000)
    ]

    assert scores == pytest.approx([scores[0]] * 3, abs=1e-5)


def test_channel_sums_keep_the_sign_and_find_the_channels():
    values = seeded(0, 2, 3, 4, 4)

    torch.testing.assert_close(channel_sums(values), values.sum(dim=(2, 3)))
    torch.testing.assert_close(channel_sums(values.permute(0, 2, 3, 1), channel_dim=-1), values.sum(dim=(2, 3)))
    assert torch.equal(channel_sums(values[:, :, 0, 0]), values[:, :, 0, 0])


def linear_network() -> nn.Sequential:
    """Return a linear network: stem and stage1 are the identity, the head has weights (1, 0) and (3, 4)."""
    stem = nn.Conv2d(2, 2, 1, bias=False)
    stem.weight.data = torch.eye(2).view(2, 2, 1, 1)
    head = linear_tail(torch.tensor([[1.0, 0], [3, 4]]))
    return nn.Sequential(OrderedDict(stem=stem, stage1=nn.Identity(), head=head)).eval()


def test_the_score_of_a_linear_network_worked_out_by_hand():
    # class 0: (4, 1), class 1: (1, 3), background all four images, mean (2.5, 2)
    images = torch.tensor([[4.0, 1], [4, 1], [1, 3], [1, 3]]).view(4, 2, 1, 1)

    score = ShapScorer(samples_per_class=2, background=4, draws=4).score(
        linear_network(), images, torch.tensor([0, 0, 1, 1]), n_classes=2, seed=0
    )

    # class 0: (1 * 1.5, 0), class 1: (3 * -1.5, 4 * 1)
    assert score.value == pytest.approx(1 - (-4.5) / math.hypot(4.5, 4), abs=1e-6)
    assert score.profile == {"stem": pytest.approx(score.value)}
    assert score.completeness_error == pytest.approx(0, abs=1e-6)
    assert score.scorer == "shap"
    assert score.n_samples == 4


def test_the_score_is_the_mean_over_pairs_and_over_probes():
    network, (images, labels) = staged_network(), labeled(n=80)
    scorer = ShapScorer(samples_per_class=5, draws=4, background=8)

    score = scorer.score(network, images, labels, n_classes=N_CLASSES, seed=0)

    assert list(score.profile) == ["stem", "stage1", "stage2"]
    assert score.value == pytest.approx(np.mean(list(score.profile.values())))
    assert score.value == pytest.approx(score.distances[np.triu_indices(N_CLASSES, 1)].mean())


def test_quadrature_has_a_lower_completeness_error_for_the_same_gradients():
    network, (images, labels) = staged_network(), labeled(n=80)

    random, quadrature = (
        ShapScorer(samples_per_class=5, path=path).score(network, images, labels, n_classes=N_CLASSES, seed=0)
        for path in ("random", "quadrature")
    )

    assert quadrature.scorer == "shap_quadrature"
    assert quadrature.completeness_error < 0.3 * random.completeness_error


def test_quadrature_starts_from_the_mean_activation():
    images = torch.tensor([[4.0, 1], [4, 1], [1, 3], [1, 3]]).view(4, 2, 1, 1)

    score = ShapScorer(samples_per_class=2, background=4, draws=1, path="quadrature").score(
        linear_network(), images, torch.tensor([0, 0, 1, 1]), n_classes=2, seed=0
    )

    # in a linear network the values from the mean are the mean of the values
    assert score.value == pytest.approx(1 - (-4.5) / math.hypot(4.5, 4), abs=1e-6)
    assert score.completeness_error == pytest.approx(0, abs=1e-6)


def test_named_probes_are_used():
    score = ShapScorer(probes=("stage3", "stem"), samples_per_class=2, draws=2).score(
        staged_network(), *labeled(), n_classes=N_CLASSES, seed=0
    )

    assert list(score.profile) == ["stage3", "stem"]


def test_the_score_depends_on_the_seed_only():
    network, (images, labels) = staged_network(), labeled(n=80)
    scorer = ShapScorer(samples_per_class=4, draws=2)

    values = [scorer.score(network, images, labels, n_classes=N_CLASSES, seed=s).value for s in (1, 1, 2)]

    assert values[0] == values[1] != values[2]


def test_predicted_explains_and_groups_by_the_predicted_class():
    # predicted classes 0, 0, 1, 1, labels 1, 1, 0, 0; mean (-1.5, 1)
    images = torch.tensor([[-4.0, -1], [-4, -1], [1, 3], [1, 3]]).view(4, 2, 1, 1)

    score = ShapScorer(explain="predicted", samples_per_class=2, background=4, draws=4).score(
        linear_network(), images, torch.tensor([1, 1, 0, 0]), n_classes=2, seed=0
    )

    # class 0: (1 * -2.5, 0), class 1: (3 * 2.5, 4 * 2)
    assert score.value == pytest.approx(1 + 7.5 / math.hypot(7.5, 8), abs=1e-6)
    assert score.scorer == "shap_predicted"


def test_network_and_generators_are_left_unchanged():
    network, (images, labels) = staged_network().train(), labeled()
    network.stem[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002

    ShapScorer(samples_per_class=2, draws=2).score(network, images, labels, n_classes=N_CLASSES, seed=0)

    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert network.training
    assert [p.requires_grad for p in network.parameters()].count(False) == 1
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not images.requires_grad


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (seeded(0, 8, 3, 8, 8), torch.full((8,), 2), "no pair of the 4 classes has a distance"),
        (torch.ones(8, 3, 8, 8), torch.arange(8) % 4, "no pair of the 4 classes has a distance"),  # no image differs
        (torch.full((8, 3, 8, 8), torch.nan), torch.arange(8) % 4, "shap: SHAP values are not finite"),
    ],
)
def test_without_distances_there_is_no_score(images, labels, why):
    with pytest.raises(TrialFailure, match=why) as failure:
        ShapScorer(draws=2).score(staged_network(), images, labels, n_classes=N_CLASSES, seed=0)

    assert failure.value.reason == "no_score"


@pytest.mark.parametrize("name", ["samples_per_class", "draws", "background", "batch_size"])
def test_counts_are_checked(name):
    with pytest.raises(SettingError, match=f"{name} must be at least 1, got 0"):
        ShapScorer(**{name: 0})


def test_an_unknown_probe_is_reported_with_the_most_similar_stage():
    with pytest.raises(SettingError, match=r"probes must be stages before the last, got 'stage9'\. Did you mean stage"):
        stage_probes(staged_network(), ["stage9"])
    with pytest.raises(SettingError, match="probes must be stages before the last, got 'head'"):
        stage_probes(staged_network(), ["head"])
    with pytest.raises(SettingError, match=r"probes must be a list of text or null, length at least 1, got \[\]"):
        ShapScorer(probes=())
    with pytest.raises(SettingError, match="probes need a network of named stages, at least one before the head, got"):
        stage_probes(nn.Sequential(nn.Linear(4, 2)))
