"""Load a pretrained network by the name in `space.backbone`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from nasx.backbones import efficientnet_lite
from nasx.backbones.pretrained import Pretrained
from nasx.backbones.sources import KEY
from nasx.config.backbone_names import FORMS, is_code, library_of
from nasx.errors import SettingError, did_you_mean

NAMES: Final[dict[str, Callable[[Path | None], Pretrained]]] = {efficientnet_lite.NAME: efficientnet_lite.load}
KEPT: Final = 4  # networks in memory
Stamp = tuple[int, int, int]  # modification time, size and number of a file


@torch.random.fork_rng(devices=[])  # the constructors of networks draw weights, which are replaced
def load_backbone(name: str, weights: Path | None = None) -> Pretrained:
    """Return a pretrained network; each is loaded once in a process, and again if its file of weights has changed.

    Args:
        name: e.g. "efficientnet_lite0", "timm:resnet18", "transformers:DIRECTORY" or "my_models:resnet".
        weights: file of weights; None: those that belong to the name.

    Raises:
        ConfigError: if there is no such network, or if it cannot be cut into stages.
        ResourceError: if its package or its weights are not on this machine.
        DataError: if the weights do not fit.
    """
    if weights is not None and not weights.is_file():
        problem = "is not a file" if weights.exists() else "does not exist"
        raise SettingError("space.weights", f"must be a file of weights of {name}: {weights} {problem}")
    return _load(name, weights, _stamp(weights))


@torch.random.fork_rng(devices=[])
def load_untrained(name: str) -> Pretrained:
    """Return a network for a model file that contains all of its weights, which need not be on this machine.

    Runs no code of a user.

    Args:
        name: of a network of nasx, timm or torchvision.

    Raises:
        SettingError: if it is another one.
        ResourceError: if its package is missing.
    """
    library, own = library_of(name)
    if library == "timm":
        from nasx.backbones.timm_models import load_timm  # torch.fx takes time to load

        return load_timm(own, None, trained=False)
    if library == "torchvision":
        from nasx.backbones.torchvision_models import load_torchvision  # torch.fx takes time to load

        return load_torchvision(own, None, trained=False)
    if name == efficientnet_lite.NAME:
        return efficientnet_lite.load(trained=False)
    if name not in NAMES:
        raise SettingError(KEY, f"must be of nasx, timm or torchvision in a model file, got {name!r}")
    return NAMES[name](None)


@lru_cache(maxsize=KEPT)
def _load(name: str, weights: Path | None, stamp: Stamp | None) -> Pretrained:
    library, own = library_of(name)
    # deferred: torch.fx takes time to load
    if library == "timm":
        from nasx.backbones.timm_models import load_timm

        return load_timm(own, weights)
    if library == "torchvision":
        from nasx.backbones.torchvision_models import load_torchvision

        return load_torchvision(own, weights)
    if library == "transformers":
        from nasx.backbones.transformers_models import load_transformers

        return load_transformers(own, weights)
    if is_code(name):
        from nasx.backbones.user_models import load_factory

        return load_factory(name, weights)
    if name in NAMES:
        return NAMES[name](weights)
    raise SettingError(KEY, f"must be a known network, got {name!r}. {_hint(name)}")


def _hint(name: str) -> str:
    """Return a sentence with the networks that might be meant."""
    near = did_you_mean(name, NAMES)
    return near if near.startswith("Did") else f"Known: {', '.join((*NAMES, *FORMS))}."


def _stamp(weights: Path | None) -> Stamp | None:
    try:
        state = None if weights is None else weights.stat()
    except OSError:  # it does not exist: reported when it is read
        return None
    return None if state is None else (state.st_mtime_ns, state.st_size, state.st_ino)
