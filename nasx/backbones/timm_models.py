"""Pretrained networks of timm, with weights on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from nasx.backbones.model_stages import LastMap, single_stage, split
from nasx.backbones.pretrained import Pretrained
from nasx.backbones.sources import (
    UNKNOWN,
    Source,
    absent,
    check_name,
    data_of,
    hub_file,
    import_library,
    preprocessing_of,
    torch_hub_file,
    translated,
)
from nasx.errors import SettingError
from nasx.introspection.load_model import load_state, read_state

HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin")  # names of weights in a repository of Hugging Face


def load_timm(name: str, weights: Path | None, *, trained: bool = True) -> Pretrained:
    """Return a network of timm.

    Args:
        name: of the network in timm, e.g. "resnet18" or "resnet18.a1_in1k".
        weights: file of its weights; None: the cache of Hugging Face or torch.
        trained: False: without weights.

    Raises:
        SettingError: if there is no such network, or it cannot be cut into stages.
        ResourceError: if timm or the weights are not on this machine.
        DataError: if the weights do not fit.
    """
    full = f"timm:{name}"
    timm = import_library("timm", full)
    check_name(name.partition(".")[0], timm.list_models(), "timm")
    try:
        model = timm.create_model(name, pretrained=False)
        found = model.pretrained_cfg
        source = Source(UNKNOWN)
        if trained and weights is not None:
            classifier = found.get("classifier") or ()
            load_state(model, weights, unused=(classifier,) if isinstance(classifier, str) else tuple(classifier))
            source = Source.of_file(weights)
        elif trained:
            file = _file(found, full)
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": read_state(file)})
            source = Source(f"timm, {found.get('hf_hub_id') or file.name}", *_facts(found))
    except Exception as error:
        raise translated(error, full) from error
    preprocessing = preprocessing_of(
        size=found["input_size"][-1], mean=found["mean"], std=found["std"], interpolation=found["interpolation"]
    )
    try:
        stages = split(model, full, preprocessing.size)
    except SettingError:
        if not hasattr(model, "forward_intermediates"):
            raise
        stages = single_stage(LastMap(model, _maps), full, preprocessing.size, "blocks")
    return Pretrained(full, stages, preprocessing, source.origin, source.license, source.data)


def _maps(model: Any, images: torch.Tensor) -> list[torch.Tensor]:
    maps: list[torch.Tensor] = model.forward_intermediates(
        images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return maps


def _file(found: Mapping[str, Any], full: str) -> Path:
    """Return the file of a network's weights in the cache of Hugging Face or torch."""
    if found.get("hf_hub_id"):
        name = found.get("hf_hub_filename")
        file = hub_file(found["hf_hub_id"], (name,) if name else HUB_FILES)
    else:
        file = torch_hub_file(str(found.get("url") or ""))
    return file or absent(full, f"import timm; timm.create_model({full.partition(':')[2]!r}, pretrained=True)")


def _facts(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the license of weights, and the data on which they were trained."""
    return str(found.get("license") or UNKNOWN), data_of(str(found.get("tag") or ""))
