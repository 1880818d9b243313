"""Configs: one YAML file an experiment, one a choice, overrides on top.

A **config** names one choice for each of the groups dataset, space, training, scorer, algorithm and execution, and
sets what holds for the whole search. `compose` gives it as plain data with nothing left open, `read` as a checked
record, and `build` makes the component that a part of it describes.
"""

from nasx.config.components import build, dataset_name
from nasx.config.compose import choice, compose, load_resolved, provenance, to_yaml
from nasx.config.find import description, find_config, known_choices, known_configs, known_groups, packaged_directory
from nasx.config.schema import GROUPS, Experiment, read

__all__ = [
    "GROUPS",
    "Experiment",
    "build",
    "choice",
    "compose",
    "dataset_name",
    "description",
    "find_config",
    "known_choices",
    "known_configs",
    "known_groups",
    "load_resolved",
    "packaged_directory",
    "provenance",
    "read",
    "to_yaml",
]
