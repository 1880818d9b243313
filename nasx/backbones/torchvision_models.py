"""Pretrained networks of torchvision, with weights on this machine."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from nasx.backbones.model_stages import split
from nasx.backbones.pretrained import Pretrained
from nasx.backbones.sources import (
    UNKNOWN,
    Source,
    absent,
    check_name,
    data_of,
    environment,
    import_library,
    preprocessing_of,
    torch_hub_file,
    translated,
)
from nasx.introspection.load_model import load_state


def load_torchvision(name: str, weights: Path | None, *, trained: bool = True) -> Pretrained:
    """Return a network of torchvision; the arguments and errors are those of `load_timm`.

    Args:
        name: of the network in torchvision, e.g. "resnet18".
        weights: file of its weights; None: the cache of torch.
        trained: False: without weights.
    """
    full = f"torchvision:{name}"
    models = import_library("torchvision", full).models
    check_name(name, models.list_models(module=models), "torchvision")
    try:
        entry = models.get_model_weights(name).DEFAULT
        source = Source(UNKNOWN)
        if trained and weights is None:
            file = torch_hub_file(entry.url) or absent(
                full, f"import torchvision; torchvision.models.get_model({name!r}, weights='DEFAULT')"
            )
            # no code in the file is run; torch warns about the pickles that it then rejects
            with environment(TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model = models.get_model(name, weights=entry)
            license_ = str(entry.meta.get("license") or UNKNOWN)
            source = Source(f"torchvision, {file.name}", license_, data_of(entry.name))
        else:
            model = models.get_model(name, weights=None)
            if trained and weights is not None:
                load_state(model, weights, unused=_last_linear(model))
                source = Source.of_file(weights)
        transforms = entry.transforms()
        preprocessing = preprocessing_of(
            size=transforms.crop_size[0],
            mean=transforms.mean,
            std=transforms.std,
            interpolation=transforms.interpolation.value,
        )
    except Exception as error:
        raise translated(error, full) from error
    stages = split(model, full, preprocessing.size)
    return Pretrained(full, stages, preprocessing, source.origin, source.license, source.data)


def _last_linear(model: nn.Module) -> tuple[str, ...]:
    """Return the name of the last linear layer, the classifier of networks of torchvision; () if there is none."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))[-1:]
