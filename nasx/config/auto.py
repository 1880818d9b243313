"""Settings that may be `auto`: a search derives them from the images and its budget before it starts.

`nasx.planning` derives them. The config of a run contains the numbers, so a run is resumed and repeated without `auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nasx.config.plain import Config, get, put

AUTO: Final = "auto"
DERIVABLE: Final = (
    "dataset.image_size",
    "dataset.grayscale",
    "training.batch_size",
    "training.epochs",
    "space.channels",
    "space.cells",
    "algorithm.population_size",
    "algorithm.evaluations",
)
EVALUATIONS: Final = "algorithm.evaluations"


def derived_settings(config: Mapping[str, Any]) -> list[str]:
    """Return the full keys of the settings of a config that a search derives.

    >>> derived_settings({"training": {"epochs": "auto", "precision": "auto"}})
    ['training.epochs']
    """
    return [key for key in DERIVABLE if get(config, key) == AUTO]


def with_a_number_of_evaluations(config: Config) -> Config:
    """Return a config with 1 evaluation if their number is derived: the root of a config is checked with a number."""
    return put(config, EVALUATIONS, 1) if get(config, EVALUATIONS) == AUTO else config
