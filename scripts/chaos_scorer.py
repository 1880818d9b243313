"""Scorer that injects the fault named by the environment variable FAULT, for `scripts/chaos`."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nasx import files
from nasx.introspection.activations import ActivationScorer
from nasx.trial import Score

VICTIM = Path("victim")  # file: numbers of parameters of the first two networks scored; the second one is the victim


BROKEN_WORKER = Path("broken-worker")  # file: id of the process in which every trial fails
IN_ONE_WORKER = {
    "device": torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    "worker": RuntimeError("made up: broken"),
}


class FaultyScorer(ActivationScorer):
    """Activation score with a fault for one network, or with "always" for all networks."""

    def score(self, network: nn.Sequential, images: Tensor, labels: Tensor, *, n_classes: int, seed: int) -> Score:
        score = super().score(network, images, labels, n_classes=n_classes, seed=seed)
        fault = os.environ.get("FAULT", "")
        if fault in IN_ONE_WORKER:
            if _is_broken(network):
                raise IN_ONE_WORKER[fault]
            return score
        if not fault or not (fault == "always" or _is_victim(network)):
            return score
        if fault in ("raise", "always"):
            raise ValueError("made up")
        if fault == "nan":
            return replace(score, value=float("nan"))
        if fault == "oom":
            raise torch.OutOfMemoryError("made up: no memory left")
        if fault == "hang":
            time.sleep(3600)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "disk":
            files.os = _FullDisk()  # type: ignore[assignment]
        return score


def _is_broken(network: nn.Module) -> bool:
    """Return whether this process was the first to score the victim; from then on every trial in it fails."""
    if _is_victim(network) and not BROKEN_WORKER.exists():
        BROKEN_WORKER.write_text(str(os.getpid()))
    return BROKEN_WORKER.exists() and BROKEN_WORKER.read_text() == str(os.getpid())


def _is_victim(network: nn.Module) -> bool:
    mark = str(sum(p.numel() for p in network.parameters()))
    seen = VICTIM.read_text().split() if VICTIM.exists() else []
    if len(seen) < 2 and mark not in seen:
        VICTIM.write_text(" ".join([*seen, mark]))
        seen.append(mark)
    return len(seen) > 1 and seen[1] == mark


class _FullDisk:
    """Replacement of the module os that simulates a full disk."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")
