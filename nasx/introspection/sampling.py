"""What the SHAP estimate draws: images to explain, background images, and the paths between them.

Each takes a generator of its own. The same seed and labels give the same draws whatever the network, so that the
networks of a search are compared on common random numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Paths(NamedTuple):
    """For each sample and draw, from which background image the path starts and how far along it is looked at."""

    background: Tensor  # (n_samples, n_draws) int64, indices into the background
    position: Tensor  # (n_samples, n_draws) float32 in [0, 1): 0 at the background image, 1 at the sample


def draw_paths(n_samples: int, n_draws: int, n_background: int, *, generator: Generator) -> Paths:
    """Paths spread as evenly as they can be.

    A sample's draws look at ascending positions, one drawn uniformly in each of n_draws equal intervals, and meet the
    background images round by round in random order: so each is met equally often and all along the way. Every single
    draw is as good as uniform, so the estimate stays unbiased, but the draws of a sample do not repeat each other.
    """
    rounds = -(-n_draws // n_background)
    order = torch.rand(n_samples, rounds, n_background, generator=generator).argsort(dim=2)
    jitter = torch.rand(n_samples, n_draws, generator=generator)
    return Paths(order.flatten(1)[:, :n_draws], (torch.arange(n_draws) + jitter) / n_draws)


def midpoint_paths(n_samples: int, n_draws: int) -> Paths:
    """Paths from one starting point, looked at in the middle of n_draws equal intervals: the midpoint rule.

    Rectifiers bend a logit along its way, so that rules of higher order come no nearer (measured: Gauss-Legendre).
    """
    positions = (torch.arange(n_draws) + 0.5) / n_draws
    return Paths(torch.zeros(n_samples, n_draws, dtype=torch.int64), positions.expand(n_samples, -1))


def stratified(labels: Tensor, n_per_class: int, *, generator: Generator) -> Tensor:
    """Indices of up to n_per_class samples of each class among `labels`, (n,); all of a smaller class.

    Classes take turns, so that the first k indices hold every class about k / n_classes times.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    turn = _occurrence(labels[shuffled])
    chosen = shuffled[turn < n_per_class]
    turn = turn[turn < n_per_class]
    return chosen[torch.argsort(turn * (int(labels.max()) + 1 if len(labels) else 1) + labels[chosen])]


def split_sample(labels: Tensor, *, n_per_class: int, n_background: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Indices of the images to explain and of the background, both stratified by `labels`, (n,).

    They are disjoint where images suffice; what is missing in the background is taken from the images to explain, since
    a background too small would estimate another value.
    """
    explained = stratified(labels, n_per_class, generator=generator)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[explained] = False
    others = rest.nonzero().flatten()
    background = others[stratified(labels[others], n_background, generator=generator)][:n_background]
    missing = n_background - len(background)
    return explained, torch.cat([background, explained[:missing]])


def _occurrence(labels: Tensor) -> Tensor:
    """How many equal labels precede each label: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = torch.argsort(labels, stable=True)
    ordered = labels[order]
    starts = torch.searchsorted(ordered, ordered)  # where the run of each label begins
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(labels)) - starts
    return ranks
