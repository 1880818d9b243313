"""The network as others use it: pixels in, probabilities and a confidence out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasx.diagnostics.confidence import Confidence, WithConfidence


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
