"""Settings that may be `auto`: a search derives them from the images and its budget before it starts.

`nasx.planning` derives them. The config of a run contains the values, so a run is resumed and repeated without `auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nasx.config.components import AUTO, TARGET
from nasx.config.plain import Config, get, put

CHOSEN: Final = ("space", "training")  # groups of which a search chooses the file: `_target_` is `auto`
CLASSES: Final = {  # of the files that may be chosen
    "space": ("nasx.spaces.nb201.NASBench201", "nasx.spaces.backbone.BackboneSpace"),
    "training": ("nasx.training.recipe.Recipe",),
}
DERIVABLE: Final = (
    *(f"{group}.{TARGET}" for group in CHOSEN),
    "dataset.image_size",
    "dataset.grayscale",
    "dataset.interpolation",
    "dataset.augmentation.horizontal_flip",
    "dataset.augmentation.cutout",
    "training.batch_size",
    "training.epochs",
    "space.channels",
    "space.cells",
    "search.replicates",
    "algorithm.population_size",
    "algorithm.evaluations",
)
EVALUATIONS: Final = "algorithm.evaluations"
REPLICATES: Final = "search.replicates"
_CHECKED_AS: Final = {EVALUATIONS: 1, REPLICATES: 0}  # values with which the root of a config is checked


def derived_settings(config: Mapping[str, Any]) -> list[str]:
    """Return the full keys of the settings of a config that a search derives.

    >>> derived_settings({"training": {"epochs": "auto", "precision": "auto"}})
    ['training.epochs']
    """
    return [key for key in DERIVABLE if get(config, key) == AUTO]


def with_checkable_root(config: Config) -> Config:
    """Return a config with numbers for the settings of its root that are derived: the root is checked with numbers."""
    for key, value in _CHECKED_AS.items():
        if get(config, key) == AUTO:
            config = put(config, key, value)
    return config
