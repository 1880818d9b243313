"""Configs: one YAML file per experiment and per choice, with overrides.

A **config** names one choice for each of the groups dataset, space, training, scorer, algorithm and execution, and
contains the settings of the whole search. `compose.compose` returns it as plain data, `schema.read_config` as a checked
record, and `components.build` builds the component that a section describes.
"""
