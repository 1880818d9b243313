"""A pretrained network as a sequence of stages, with its preprocessing and the facts about its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from nasx.data.decoding import Interpolation

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of the images on which a network was pretrained."""

    size: int = 224  # pixels per side; other sizes are possible
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of red, green, blue, scaled to [0, 1]
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"  # with which images were resized


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Pretrained network without its classifier."""

    name: str  # as in `space.backbone`
    # Children in order: the first takes normalized color images (n, 3, height, width), each returns feature maps
    # (n, channels, height, width). In evaluation mode, on the CPU, without gradients of the parameters
    stages: nn.Sequential
    preprocessing: Preprocessing
    source: str  # for the model card: package or file with the weights
    license: str  # of the weights; "unknown" if it is not known
    data: str  # on which the weights were trained

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.stages.named_children())

    @property
    def n_weights(self) -> int:
        """Number of all weights, those of batch norm's statistics included."""
        return sum(tensor.numel() for tensor in self.stages.state_dict().values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the names, shapes and values of all weights, and of the preprocessing."""
        found = hashlib.sha256(repr((self.stage_names, self.preprocessing)).encode())
        for name, tensor in self.stages.state_dict().items():
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()
