"""Settings of a training, and the schedule of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from nasx.config.settings import settings


@settings
class Recipe:
    """Settings of a training. Source of the defaults: the paper's CIFAR-10 recipe."""

    epochs: Annotated[int, Field(ge=1)] = 12
    batch_size: Annotated[int, Field(ge=2)] = 512  # batch normalization cannot learn from one image
    learning_rate: Annotated[float, Field(ge=0)] = 0.1  # the highest, after warm-up
    momentum: Annotated[float, Field(ge=0)] = 0.9  # Nesterov's
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.5
    regularizer: Annotated[float, Field(ge=0)] = 0.0  # weight of class similarity in the loss; 0: cross entropy only
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of each label, spread over all classes
    # Decay per step of an average of the weights that replaces them; 0: none. Source: Polyak averaging, with the
    # exponential decay of Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: bool = False  # weigh the loss of an image by the inverse of its class's number of training images
    # Numbers in matrix products; auto: bfloat16 if the processor multiplies it in hardware
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    views: Annotated[int, Field(ge=1)] = 4  # of each image whose features are cached: the image, and augmented ones
    unfreeze: Annotated[int, Field(ge=0)] = 0  # last stages of a backbone that are trained, too
    unfreeze_rate: Annotated[float, Field(ge=0)] = 0.1  # of them, relative to the learning rate
    keep: Literal["best", "last"] = "best"  # epoch of the weights: lowest validation error, or last

    def as_record(self) -> dict[str, Any]:
        """Return the settings as final.json and checkpoints contain them: `regularizer` under its former name.

        Without settings that are off, so that checkpoints of older versions can be continued.
        """
        record = {("regulariser" if name == "regularizer" else name): value for name, value in asdict(self).items()}
        for name in ("class_weights", "views", "unfreeze", "unfreeze_rate"):
            if record[name] == DEFAULTS[name]:
                del record[name]
        return record


DEFAULTS: Final[Mapping[str, Any]] = {f.name: f.default for f in fields(Recipe)}


def learning_rate_factor(step: int, steps: int, warmup_steps: float) -> float:
    """Return the learning rate at a step as a share of the highest: linear to 1 in the warm-up, then a cosine to 0.

    Args:
        step: number of updates before this one.
        steps: updates of the whole training.
        warmup_steps: updates of the warm-up, may be a fraction.

    >>> [round(learning_rate_factor(s, 10, 2), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(steps - warmup_steps, 1)))
