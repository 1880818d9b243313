"""Scorer that breaks the CUDA context of one worker, once."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from nasx.data.batches import Pixels
from nasx.introspection.activations import ActivationScorer
from nasx.trial import Score

MARK = "NASX_GPU_CHECK_BROKEN"  # environment variable: file that exists after a worker has been broken


def break_the_context() -> None:
    """Trigger a kernel's assertion by an index out of range; every later CUDA call of the process fails."""
    torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")].sum().item()


class BreakingScorer(ActivationScorer):
    """Activation score that breaks the worker of the first network."""

    def score(self, network: nn.Module, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int) -> Score:
        if images.device.type == "cuda" and _is_first(Path(os.environ[MARK])):
            break_the_context()
        return super().score(network, images, labels, n_classes=n_classes, seed=seed)


def _is_first(mark: Path) -> bool:
    """Create the file; return False if another worker has created it."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
