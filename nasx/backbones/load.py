"""Load a pretrained network by the name in `space.backbone`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import torch

from nasx.backbones import efficientnet_lite
from nasx.backbones.pretrained import Pretrained
from nasx.errors import SettingError, did_you_mean

NAMES: Final[dict[str, Callable[[Path | None], Pretrained]]] = {efficientnet_lite.NAME: efficientnet_lite.load}


@torch.random.fork_rng(devices=[])  # the constructors of networks draw weights, which are replaced
def load_backbone(name: str, weights: Path | None = None) -> Pretrained:
    """Return a pretrained network; each is loaded once in a process.

    Args:
        name: e.g. "efficientnet_lite0".
        weights: file of weights; None: those that belong to the name.

    Raises:
        SettingError: if there is no such network, or no weights for it.
        ResourceError: if its package is missing.
        DataError: if the weights do not fit.
    """
    return _load(name, weights, None if weights is None else weights.stat().st_mtime_ns if weights.exists() else None)


@cache
def _load(name: str, weights: Path | None, modified: int | None) -> Pretrained:
    if name in NAMES:
        return NAMES[name](weights)
    raise SettingError("space.backbone", f"must be a known network, got {name!r}. {did_you_mean(name, NAMES)}")
