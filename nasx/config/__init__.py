"""Configs: one YAML file per experiment, one per choice, overrides on top.

A **config** names one choice for each of the groups dataset, space, training, scorer, algorithm and execution, and sets
what holds for the whole search. `compose.compose` returns it as plain data, `schema.read_config` as a checked record,
and `components.build` builds the component that a part of it describes.
"""
