"""A user's own cells, described in YAML: how many nodes, which edges, and what may stand on them.

An operation is a torch module, named by `_target_` with its arguments, or a list of them that are passed one after the
other. The word CHANNELS stands for the channels of the stage. An operation that is null carries nothing::

    nodes: 3
    edges: null
    operations:
      none: null
      skip: {_target_: torch.nn.Identity}
      conv:
        - {_target_: torch.nn.ReLU}
        - {_target_: torch.nn.Conv2d, in_channels: CHANNELS, out_channels: CHANNELS, kernel_size: 3, padding: 1}

The skeleton around the cells is NAS-Bench-201's. Two encodings are known for one network where they differ in edges
that lead nowhere, or in the numbering of the nodes between input and output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nasx.config.components import TARGET, build, load_target
from nasx.errors import ArchitectureError, ConfigError, SettingError
from nasx.networks.edge import Edge
from nasx.spaces.nb201 import Ends, all_edges, format_cell, parse_cell
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

CHANNELS: Final = "CHANNELS"  # in the arguments of an operation: the channels of the stage
MAX_NODES: Final = 8  # the nodes between input and output are renumbered in every order: at most 6! = 720
N_STAGES: Final = 3


class CellSpace:
    """Cells of any nodes, edges and operations, in the skeleton of NAS-Bench-201."""

    name: ClassVar[str] = "cell_yaml"

    def __init__(
        self,
        *,
        operations: Mapping[str, Any],
        nodes: int = 4,
        edges: tuple[tuple[int, int], ...] | None = None,
        channels: int = 16,
        cells: int = 2,
    ) -> None:
        """`edges`: [source, target] pairs; None: every node is fed by all before it. `cells`: a stage, of three."""
        if not 2 <= nodes <= MAX_NODES:
            raise SettingError("nodes", f"must be 2 to {MAX_NODES}, got {nodes}")
        for setting, value in (("channels", channels), ("cells", cells)):
            if value < 1:
                raise SettingError(setting, f"must be at least 1, got {value}")
        self.nodes = nodes
        self.ends = all_edges(nodes) if edges is None else _checked_edges(edges, nodes)
        self.operations = {name: _to_plain(node) for name, node in operations.items()}
        self.channels = channels
        self.cells = cells
        self.alleles = tuple(self.operations)
        self._check_operations()

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        return (len(self.alleles),) * len(self.ends)

    @property
    def gene_names(self) -> tuple[str, ...]:
        return tuple(f"edge {source}→{target}" for source, target in self.ends)

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return self.alleles

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "nodes": self.nodes,
            "edges": [list(ends) for ends in self.ends],
            "operations": [[name, node] for name, node in self.operations.items()],  # a list: their order is meant
            "channels": self.channels,
            "cells": self.cells,
        }

    def canonical(self, genotype: Genotype) -> Genotype:
        """The encoding without dead edges that is the smallest under all numberings of the nodes between."""
        live = {ends: allele for ends, allele in self._carried(genotype).items() if ends in self._live(genotype)}
        return min(self._renumbered(live))

    def is_connected(self, genotype: Genotype) -> bool:
        return bool(self._live(genotype))

    def edges(self, genotype: Genotype) -> list[Edge]:
        """The edges that carry an operation, dead or live."""
        return [Edge(*ends, self.alleles[allele]) for ends, allele in self._carried(genotype).items()]

    def describe(self, genotype: Genotype) -> str:
        """The string form of NAS-Bench-201: `|op~source|...` for every node, joined by +."""
        return format_cell(self.ends, [self.alleles[allele] for allele in genotype], self.nodes)

    def parse(self, text: str) -> Genotype:
        return tuple(self.alleles.index(name) for name in parse_cell(text, self.ends, self.alleles, self.nodes))

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """The network of the canonical encoding. Raises ArchitectureError where the cell is disconnected."""
        if not self.is_connected(genotype):
            raise ArchitectureError(f"{self.describe(genotype)} joins its input to no output: it is no network.")
        from nasx.networks.skeletons import cell_network  # here: who only reads genotypes need not load torch

        canonical = self.canonical(genotype)
        live = self._live(canonical)
        return cell_network(
            [edge for edge in self.edges(canonical) if edge[:2] in live],
            widths=[self.channels * 2**stage for stage in range(N_STAGES)],
            cells=self.cells,
            input_shape=input_shape,
            n_classes=n_classes,
            operations={name: partial(self._module, name) for name in self.alleles},
        )

    @property
    def _blank(self) -> int | None:
        """The allele that carries nothing, if there is one."""
        return next((allele for allele, node in enumerate(self.operations.values()) if node is None), None)

    def _carried(self, genotype: Genotype) -> dict[Ends, int]:
        """The alleles of the edges that carry something."""
        return {ends: allele for ends, allele in zip(self.ends, genotype, strict=True) if allele != self._blank}

    def _live(self, genotype: Genotype) -> set[Ends]:
        """The edges on a path from the input to the output."""
        carried = self._carried(genotype)
        fed, useful = {0}, {self.nodes - 1}
        for source, target in sorted(carried, key=lambda ends: ends[1]):
            if source in fed:
                fed.add(target)
        for source, target in sorted(carried, reverse=True):
            if target in useful:
                useful.add(source)
        return {(source, target) for source, target in carried if source in fed and target in useful}

    def _renumbered(self, live: Mapping[Ends, int]) -> Iterator[Genotype]:
        """The encodings of the same graph under every numbering of its nodes that this space can write."""
        # where nothing can be left blank the same edges are live in every cell: a numbering must map them to themselves
        places = {ends: place for place, ends in enumerate(self.ends) if self._blank is not None or ends in live}
        for order in permutations(range(1, self.nodes - 1)):
            number = (0, *order, self.nodes - 1)
            moved = {(number[source], number[target]): allele for (source, target), allele in live.items()}
            if moved.keys() <= places.keys():
                genes = [self._blank or 0] * len(self.ends)
                for ends, allele in moved.items():
                    genes[places[ends]] = allele
                yield tuple(genes)

    def _module(self, name: str, channels: int) -> nn.Module:
        """The operation for maps of so many channels."""
        from torch import nn

        node = self.operations[name]
        parts = node if isinstance(node, list) else [node]
        modules = []
        for part in parts:
            key = f"operations.{name}"
            target = load_target(part, key)
            if not (isinstance(target, type) and issubclass(target, nn.Module)):  # nothing else is ever called
                raise SettingError(key, f"must be a torch module, and {part[TARGET]} is none")
            modules.append(build(_fill_channels(part, channels), key))
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    def _check_operations(self) -> None:
        """Builds each operation once and tries it on two maps. Raises SettingError naming the one that will not do."""
        if len(self.operations) < 2:
            raise SettingError("operations", f"must be at least two to choose from, got {len(self.operations)}")
        if [node is None for node in self.operations.values()].count(True) > 1:
            raise SettingError("operations", "may have one that is null, which carries nothing, got several")
        if not any(node is not None for node in self.operations.values()):
            raise SettingError("operations", "must have one that is not null")
        import torch

        from nasx.networks.operations import operation_problem

        for name, node in self.operations.items():
            key = f"operations.{name}"
            if not re.fullmatch(r"[\w.-]+", name):
                raise SettingError(key, "must be named by letters, digits, '_', '.' and '-'")
            if node is None:
                continue
            for part in node if isinstance(node, list) else [node]:
                if not isinstance(part, Mapping):
                    raise SettingError(key, f"must be a module with _target_, a list of them, or null, got {part!r}")
            with torch.random.fork_rng(devices=[]):  # initialisation draws from torch's generator; give it back
                try:
                    problem = operation_problem(self._module(name, self.channels), self.channels)
                except ConfigError as error:
                    raise _with_key(error, key) from error
                except (TypeError, ValueError, RuntimeError) as error:
                    raise SettingError(key, f"cannot be built: {' '.join(str(error).split())}") from error
            if problem:
                raise SettingError(key, problem)


def _with_key(error: ConfigError, key: str) -> SettingError:
    """The error of a module's argument, under this component's key."""
    name, _, problem = str(error).partition(" ")
    return SettingError(name, problem) if name.startswith(key) else SettingError(key, str(error))


def _checked_edges(edges: Sequence[tuple[int, int]], nodes: int) -> tuple[Ends, ...]:
    """The edges in the order of the string form. Raises SettingError where they are none of a cell."""
    for source, target in edges:
        if not 0 <= source < target < nodes:
            raise SettingError(
                "edges", f"must lead from a node to a later one of 0 to {nodes - 1}, got [{source}, {target}]"
            )
    if len(set(edges)) < len(edges) or not edges:
        raise SettingError("edges", f"must be different, and at least one, got {[list(ends) for ends in edges]}")
    return tuple(sorted(edges, key=lambda ends: (ends[1], ends[0])))


def _fill_channels(node: Any, channels: int) -> Any:
    """The node with the number of channels put in."""
    if isinstance(node, Mapping):
        return {name: _fill_channels(value, channels) for name, value in node.items()}
    if isinstance(node, list):
        return [_fill_channels(value, channels) for value in node]
    return channels if node == CHANNELS else node


def _to_plain(node: Any) -> Any:
    """A node of YAML as JSON knows it."""
    if isinstance(node, Mapping):
        return {str(name): _to_plain(value) for name, value in node.items()}
    return [_to_plain(value) for value in node] if isinstance(node, list | tuple) else node
