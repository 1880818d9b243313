"""The network as others use it: pixels in, probabilities and a confidence out; and its description as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nasx.data.dataset import SIZES
from nasx.diagnostics.confidence import Confidence, WithConfidence
from nasx.errors import DataError

KEY = "nasx"  # under which every format keeps the description in its own metadata
VERSION = 1


@dataclass(frozen=True, eq=False)
class Description:
    """An exported network, to those who use it."""

    arch_id: str
    architecture: str  # string form
    class_names: tuple[str, ...]  # in the order of the probabilities
    shape: tuple[int, int, int]  # (channels, height, width) of an image, uint8, 0 to 255
    dataset: str  # name of the dataset that it was trained on
    nasx: str  # version that exported it
    rebuild: Mapping[str, Any] = field(
        default_factory=dict
    )  # safetensors alone: space, genotype, mean, std, confidence
    version: int = VERSION  # of this record

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_description(text: str | None, file: str) -> Description:
    """The inverse of `Description.to_json`. Raises DataError where it is missing or not of that form."""
    try:
        values = json.loads(text or "")
        known = {name: values[name] for name in Description.__dataclass_fields__}
        found = Description(**{**known, "class_names": tuple(values["class_names"]), "shape": tuple(values["shape"])})
    except (ValueError, TypeError, KeyError) as exc:
        raise DataError(f"{file} is no model that `nasx export` wrote: it has no description of itself.") from exc
    low, high = SIZES
    channels, *sides = found.shape if len(found.shape) == 3 else (0, 0)
    if found.version != VERSION or channels not in (1, 3) or not all(low <= side <= high for side in sides):
        raise DataError(
            f"{file} describes a model of version {found.version} for images of shape {found.shape}; "
            f"expected version {VERSION}, 1 or 3 channels, {low} to {high} pixels."
        )
    return found


class Deployed(nn.Module):
    """uint8 images (n, channels, height, width) to (probabilities (n, n_classes), confidence (n,)), both float32."""

    mean: Tensor  # (channels, 1, 1)
    std: Tensor

    def __init__(
        self, network: nn.Sequential, confidence: Confidence, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """`mean` and `std`, (channels,): of the training images, scaled to [0, 1]."""
        super().__init__()
        self.model = WithConfidence(network, confidence)
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        answer: tuple[Tensor, Tensor] = self.model((images.float() / 255 - self.mean) / self.std)
        return answer
