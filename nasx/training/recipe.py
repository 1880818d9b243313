"""How a network is trained: the settings of a training, and the course of its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nasx.errors import SettingError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a candidate is trained. Source of the defaults: the paper's CIFAR-10 recipe."""

    epochs: int = 12
    batch_size: int = 512
    learning_rate: float = 0.1  # the highest, after warm-up
    momentum: float = 0.9  # Nesterov's
    weight_decay: float = 5e-4
    warmup_epochs: float = 0.5
    regulariser: float = 0.0  # weight of the classes' similarity in the loss; 0: plain cross entropy
    label_smoothing: float = 0.0  # share of each label that is spread over all classes, in [0, 1)
    # decay a step, in [0, 1), of an average of the weights that takes their place; 0: none. Source: Polyak averaging,
    # with the exponential decay of Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017
    average: float = 0.0
    # numbers in matrix products; auto: bfloat16 where the processor multiplies it in hardware
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    keep: Literal["best", "last"] = "best"  # which epoch's weights: of the best validation error, or the last

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 2)):  # batch normalisation cannot learn from one image
            if getattr(self, name) < low:
                raise SettingError(name, f"must be at least {low}, got {getattr(self, name)}")
        for name in ("learning_rate", "momentum", "weight_decay", "warmup_epochs", "regulariser"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(name, f"must be at least 0, got {getattr(self, name)}")
        for name in ("label_smoothing", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(name, f"must be at least 0 and less than 1, got {getattr(self, name)}")


def learning_rate_factor(step: int, steps: int, warmup_steps: float) -> float:
    """The share of the highest learning rate at a step: linear to 1 over the warm-up, then a cosine to 0.

    >>> [round(learning_rate_factor(s, 10, 2), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(steps - warmup_steps, 1)))
