"""The last stage of a network on a backbone: pooling, and a classifier of one of several kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GEM_START: Final = 3.0  # exponent before training
SMALLEST: Final = 1e-6  # positive, so that powers have a gradient
COSINE_SCALE: Final = 10.0  # of cosines before training, so that the softmax can be close to 0 and 1


class GeM(nn.Module):
    """Generalized mean pooling with a trained exponent: (n, channels, h, w) -> (n, channels, 1, 1).

    1 is average pooling of the positive part, and infinity max pooling. Source: Radenović, Tolias and Chum, TPAMI 2019.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(GEM_START))

    def forward(self, x: Tensor) -> Tensor:
        exponent = self.exponent.float().clamp(min=1.0)
        logarithms = x.float().clamp(min=SMALLEST).log()  # bfloat16 is too coarse for powers
        powers = (exponent * logarithms).exp()  # twice as fast as pow, with its gradients
        pooled: Tensor = powers.mean(dim=(2, 3), keepdim=True).pow(1 / exponent)
        return pooled.to(x.dtype)


class CosineClassifier(nn.Module):
    """Scaled cosine of a vector to a trained prototype of each class: (n, width) -> (n, n_classes).

    Source: Gidaris and Komodakis, "Dynamic few-shot visual learning without forgetting", CVPR 2018.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(n_classes, width) / math.sqrt(width))
        self.scale = nn.Parameter(torch.tensor(COSINE_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x), F.normalize(self.prototypes))


POOLINGS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "average": lambda: nn.AdaptiveAvgPool2d(1),
    "max": lambda: nn.AdaptiveMaxPool2d(1),
    "gem": GeM,
}


def _linear(width: int, n_classes: int, hidden: int, dropout: float) -> list[nn.Module]:
    return [*_dropout(dropout), nn.Linear(width, n_classes)]


def _cosine(width: int, n_classes: int, hidden: int, dropout: float) -> list[nn.Module]:
    return [*_dropout(dropout), CosineClassifier(width, n_classes)]


def _hidden(width: int, n_classes: int, hidden: int, dropout: float) -> list[nn.Module]:
    layer = [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return [*layer, *_dropout(dropout), nn.Linear(hidden, n_classes)]


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []


HEADS: Final[Mapping[str, Callable[[int, int, int, float], list[nn.Module]]]] = {
    "linear": _linear,
    "cosine": _cosine,
    "hidden": _hidden,
}


def head(channels: int, n_classes: int, *, pooling: str, kind: str, hidden: int, dropout: float) -> nn.Sequential:
    """Return the last stage of a network: (n, channels, h, w) -> (n, n_classes).

    Args:
        channels: of the feature maps, which batch norm puts on one scale.
        n_classes: number of logits.
        pooling: name in `POOLINGS`.
        kind: name in `HEADS`.
        hidden: width of the hidden layer, for that kind.
        dropout: share of the numbers in front of the last layer that are set to 0 in training.
    """
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        POOLINGS[pooling](),
        nn.Flatten(),
        *HEADS[kind](channels, n_classes, hidden, dropout),
    )


def projection(channels: int, width: int) -> nn.Sequential:
    """Return a stage that reduces the channels: (n, channels, h, w) -> (n, width, h, w)."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
