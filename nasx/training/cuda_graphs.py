"""Forward and backward pass of a network as CUDA graphs: launched as a whole, not kernel by kernel.

A small network leaves the GPU waiting for Python: a step of some 600 kernels takes longer to launch than to compute.
Capturing takes the time of a few steps, where a compiler takes minutes a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class GraphedForward:
    """Calls a network in training; batches of the first one's shape by graph, others as always.

    What is captured is the network in its training mode, in the autocast context of the first call. The gradients that
    a replay leaves are overwritten by the next: set them to None after every step, and do not add up several batches.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._replay: Callable[..., Tensor] | None = None
        self._shape = torch.Size()

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, (n, n_classes)."""
        if self._replay is None:
            self._replay, self._shape = self._capture(images), images.shape
        logits: Tensor = self._replay(images) if images.shape == self._shape else self.network(images)
        return logits

    def _capture(self, images: Tensor) -> Callable[..., Tensor]:
        # a module around the network, since it is the captured module whose forward is replaced: the network is to be
        # scored and saved as it is
        around = nn.Sequential(self.network).train()
        # the passes that warm up would count for batch norm's statistics
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        graphed: Any = torch.cuda.make_graphed_callables(around, (torch.empty_like(images).copy_(images),))
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        replay: Callable[..., Tensor] = graphed
        return replay
