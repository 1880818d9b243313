"""Deployed network: maps pixels to probabilities and a confidence; and its description as JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from nasx.data.dataset import IMAGE_SIZES
from nasx.data.decoding import Interpolation
from nasx.diagnostics.confidence import Confidence, WithConfidence
from nasx.errors import DataError
from nasx.files import parse_record

METADATA_KEY = "nasx"  # key of the description in the metadata of every format
VERSION = 3  # 1 and 2, of older files, know no interpolation; 1 knows neither value range nor digest
MAX_TEXT = 20_000_000  # characters of a description; with centroids of 1,000 classes it has some millions


@dataclass(frozen=True, eq=False)
class Description:
    """Description of an exported network."""

    arch_id: str
    architecture: str  # string form
    class_names: tuple[str, ...]  # in the order of the probabilities
    shape: tuple[int, int, int]  # (channels, height, width) of an image, uint8, 0 to 255
    dataset: str  # name of the training dataset
    nasx: str  # version of nasx that exported it
    # only for safetensors: space, genotype, mean, std, confidence
    rebuild: Mapping[str, Any] = field(default_factory=dict)
    # (lowest, highest) value of a pixel in picture files, e.g. (0, 4095); None: by the format of each file
    value_range: tuple[float, float] | None = None
    digest: str = ""  # of weights, normalization and confidence: files of one network have the same; "": older file
    interpolation: Interpolation = "bicubic"  # with which pictures are resized
    version: int = VERSION  # of this description

    def to_json(self) -> str:
        """Return the description as one line of JSON."""
        return json.dumps(DESCRIPTION.dump_python(self))


DESCRIPTION = TypeAdapter(Description)


def read_description(text: str | None, file: str) -> Description:
    """Return the description of the model in `file`. Raises DataError if `text` is not a valid one."""
    if text is None:
        raise DataError(f"{file} is not a model written by `nasx export`: it has no description.")
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"it has more than {MAX_TEXT:,} characters")
        found = parse_record(text, DESCRIPTION)
    except ValueError as exc:
        raise DataError(f"{file} is not a model written by `nasx export`: its description is invalid ({exc}).") from exc
    if len(set(found.class_names)) < max(2, len(found.class_names)):
        raise DataError(f"{file} must describe two or more different classes, got {len(found.class_names)}.")
    low, high = IMAGE_SIZES
    channels, *sides = found.shape
    if not 1 <= found.version <= VERSION or channels not in (1, 3) or not all(low <= side <= high for side in sides):
        raise DataError(
            f"{file} describes a model of version {found.version} for images of shape {found.shape}; "
            f"expected at most version {VERSION}, 1 or 3 channels, {low} to {high} pixels."
        )
    if found.value_range is not None and not -math.inf < found.value_range[0] < found.value_range[1] < math.inf:
        raise DataError(
            f"{file} describes pixels of the range {found.value_range}; expected a lower, then a higher number."
        )
    return found


class Deployed(nn.Module):
    """Maps uint8 images (n, channels, height, width) to float32 (probabilities (n, n_classes), confidence (n,))."""

    mean: Tensor  # (channels, 1, 1)
    std: Tensor

    def __init__(
        self, network: nn.Sequential, confidence: Confidence, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """Put preprocessing, network and confidence together.

        Args:
            network: Trained network.
            confidence: Calibrated confidence of its predictions.
            mean: (channels,), of the training images, scaled to [0, 1].
            std: (channels,), of the same images.
        """
        super().__init__()
        self.model = WithConfidence(network, confidence)
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and confidence of the images."""
        outputs: tuple[Tensor, Tensor] = self.model((images.float() / 255 - self.mean) / self.std)
        return outputs

    def digest(self) -> str:
        """Return a digest of everything that determines the outputs, except for the architecture."""
        found = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]
