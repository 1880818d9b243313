"""Pretrained networks that a user's function builds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from nasx.backbones.model_stages import split
from nasx.backbones.pretrained import Pretrained
from nasx.backbones.sources import KEY, Source, preprocessing_of
from nasx.errors import SettingError
from nasx.introspection.load_model import find_factory, load_model


def load_factory(factory: str, weights: Path | None) -> Pretrained:
    """Return the network that a user's function builds.

    Args:
        factory: "module:function", called without arguments. The function or the network may have an attribute
            `preprocessing`, a mapping with any of size, mean, std, interpolation; otherwise those of ImageNet apply.
        weights: file of its weights; None: the function loads them itself.

    Raises:
        ConfigError: if the network cannot be built or cut into stages.
        DataError: if the weights do not fit.
    """
    model = load_model(factory, weights)
    found = getattr(model, "preprocessing", None) or getattr(find_factory(factory), "preprocessing", None) or {}
    if not isinstance(found, Mapping) or not set(found) <= {"size", "mean", "std", "interpolation"}:
        expected = "whose attribute preprocessing is a mapping with any of size, mean, std, interpolation"
        raise SettingError(KEY, f"must name a function {expected}, got {factory}")
    preprocessing = preprocessing_of(**found)
    stages = split(copy.deepcopy(model), factory, preprocessing.size)  # a module may keep its model
    source = Source(f"the function {factory}") if weights is None else Source.of_file(weights)
    return Pretrained(factory, stages, preprocessing, source.origin, source.license, source.data)
