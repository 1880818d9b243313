"""Search space of cells that a user describes in YAML: number of nodes, edges, and operations to choose from.

An operation is a torch module, named by `_target_` with its arguments, or a list of modules that are applied one after
the other. The word CHANNELS is replaced by the channels of the stage. An operation that is null carries nothing::

    nodes: 3
    edges: null
    operations:
      none: null
      skip: {_target_: torch.nn.Identity}
      conv:
        - {_target_: torch.nn.ReLU}
        - {_target_: torch.nn.Conv2d, in_channels: CHANNELS, out_channels: CHANNELS, kernel_size: 3, padding: 1}

The skeleton around the cells is NAS-Bench-201's. Two encodings are recognized as one network if they differ only in
edges that reach no output, or in the numbering of the inner nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from nasx.config.components import TARGET, build, load_target
from nasx.config.settings import checked
from nasx.errors import ArchitectureError, ConfigError, SettingError
from nasx.networks.edge import Edge
from nasx.spaces.choices import Choices, Size
from nasx.spaces.nb201 import Ends, all_edges, format_cell, parse_cell
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

CHANNELS: Final = "CHANNELS"  # in the arguments of an operation: replaced by the channels of the stage
MAX_NODES: Final = 8  # `canonical` tries every order of the inner nodes: at most 6! = 720
N_STAGES: Final = 3


def _several(operations: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(operations) < 2:
        raise ValueError(f"must be at least two to choose from, got {len(operations)}")
    if (nulls := list(operations.values()).count(None)) > 1:
        raise ValueError(f"must have at most one that is null, got {nulls}")
    return operations


class CellSpace:
    """Search space of cells with given nodes, edges and operations, in the skeleton of NAS-Bench-201."""

    name: ClassVar[str] = "cell_yaml"

    @checked
    def __init__(
        self,
        *,
        operations: Annotated[Mapping[str, Any], AfterValidator(_several)],
        nodes: Annotated[int, Field(ge=2, le=MAX_NODES)] = 4,
        edges: Choices[tuple[int, int]] | None = None,
        channels: Size = 16,
        cells: Size = 2,
    ) -> None:
        """Check the edges, then build every operation once.

        Args:
            operations: module, list of modules or null, by name.
            nodes: nodes of a cell, with input and output.
            edges: [source, target] of each edge. None: every node is fed by all nodes before it.
            channels: channels of the first stage; the second has twice, the third four times as many.
            cells: cells per stage.
        """
        self.nodes = nodes
        self.ends = all_edges(nodes) if edges is None else _sorted_edges(edges, nodes)
        self.operations: dict[str, Any] = {name: _to_plain(node) for name, node in operations.items()}
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
            "operations": [[name, node] for name, node in self.operations.items()],  # a list keeps their order
            "channels": self.channels,
            "cells": self.cells,
        }

    def canonical(self, genotype: Genotype) -> Genotype:
        """Return the smallest encoding without dead edges over all numberings of the inner nodes."""
        live = {ends: allele for ends, allele in self._active(genotype).items() if ends in self._live(genotype)}
        return min(self._renumbered(live))

    def is_connected(self, genotype: Genotype) -> bool:
        return bool(self._live(genotype))

    def edges(self, genotype: Genotype) -> list[Edge]:
        """Return the edges that carry an operation, on a path to the output or not."""
        return [Edge(*ends, self.alleles[allele]) for ends, allele in self._active(genotype).items()]

    def describe(self, genotype: Genotype) -> str:
        """Return the string form of NAS-Bench-201: `|op~source|...` for every node, joined by +."""
        return format_cell(self.ends, [self.alleles[allele] for allele in genotype], self.nodes)

    def parse(self, text: str) -> Genotype:
        return tuple(self.alleles.index(name) for name in parse_cell(text, self.ends, self.alleles, self.nodes))

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return the network of the canonical encoding. Raises ArchitectureError if the cell is disconnected."""
        if not self.is_connected(genotype):
            cell = self.describe(genotype)
            raise ArchitectureError(f"{cell} is disconnected: no path leads from its input to its output.")
        from nasx.networks.skeletons import cell_network  # torch takes seconds to load

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
    def _null_allele(self) -> int | None:
        """Return the allele that carries nothing; None if all carry something."""
        return next((allele for allele, node in enumerate(self.operations.values()) if node is None), None)

    def _active(self, genotype: Genotype) -> dict[Ends, int]:
        """Return the alleles of the edges that carry an operation."""
        return {ends: allele for ends, allele in zip(self.ends, genotype, strict=True) if allele != self._null_allele}

    def _live(self, genotype: Genotype) -> set[Ends]:
        """Return the edges on a path from the input to the output."""
        active = self._active(genotype)
        fed, useful = {0}, {self.nodes - 1}
        for source, target in sorted(active, key=lambda ends: ends[1]):
            if source in fed:
                fed.add(target)
        for source, target in sorted(active, reverse=True):
            if target in useful:
                useful.add(source)
        return {(source, target) for source, target in active if source in fed and target in useful}

    def _renumbered(self, live: Mapping[Ends, int]) -> Iterator[Genotype]:
        """Yield the encodings of the same graph for every numbering of its inner nodes that this space can encode."""
        # without a null operation the same edges are live in every cell: a numbering must map them to themselves
        genes = {ends: gene for gene, ends in enumerate(self.ends) if self._null_allele is not None or ends in live}
        for order in permutations(range(1, self.nodes - 1)):
            number = (0, *order, self.nodes - 1)
            moved = {(number[source], number[target]): allele for (source, target), allele in live.items()}
            if moved.keys() <= genes.keys():
                genotype = [self._null_allele or 0] * len(self.ends)
                for ends, allele in moved.items():
                    genotype[genes[ends]] = allele
                yield tuple(genotype)

    def _module(self, name: str, channels: int) -> nn.Module:
        """Return the module of an operation for maps of `channels` channels."""
        from torch import nn  # torch takes seconds to load

        node = self.operations[name]
        parts = node if isinstance(node, list) else [node]
        modules = []
        for part in parts:
            key = f"operations.{name}"
            target = load_target(part, key)
            if not (isinstance(target, type) and issubclass(target, nn.Module)):  # never call anything else
                raise SettingError(key, f"must be a torch module, got {part[TARGET]}")
            modules.append(build(_fill_channels(part, channels), key))
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    def _check_operations(self) -> None:
        """Build each operation once and apply it to two maps. Raises SettingError for the first that fails."""
        import torch  # torch takes seconds to load

        from nasx.networks.operations import operation_problem

        for name, node in self.operations.items():
            key = f"operations.{name}"
            problem = _form_problem(name, node)
            if problem is None and node is not None:
                with torch.random.fork_rng(devices=[]):  # initialization draws from torch's global generator
                    try:
                        problem = operation_problem(self._module(name, self.channels), self.channels)
                    except ConfigError as error:
                        raise _with_key(error, key) from error
                    except (TypeError, ValueError, RuntimeError) as error:
                        raise SettingError(key, f"cannot be built: {' '.join(str(error).split())}") from error
            if problem:
                raise SettingError(key, problem)


def _form_problem(name: str, node: Any) -> str | None:
    """Return what is wrong with the name or the form of an operation; None if nothing is."""
    if not re.fullmatch(r"[\w.-]+", name):
        return "must be named by letters, digits, '_', '.' and '-'"
    for part in node if isinstance(node, list) else [node]:
        if not isinstance(part, Mapping) and node is not None:
            return f"must be a module with _target_, a list of them, or null, got {part!r}"
    return None


def _with_key(error: ConfigError, key: str) -> SettingError:
    """Return the error of a module's argument under the key of the operation."""
    name, _, problem = str(error).partition(" ")
    return SettingError(name, problem) if name.startswith(key) else SettingError(key, f"cannot be built: {error}")


def _sorted_edges(edges: Sequence[Ends], nodes: int) -> tuple[Ends, ...]:
    """Return the edges in the order of the string form. Raises SettingError if one does not lead to a later node."""
    for source, target in edges:
        if not 0 <= source < target < nodes:
            allowed = f"must lead from a node to a later one, 0 to {nodes - 1}"
            raise SettingError("edges", f"{allowed}, got [{source}, {target}]")
    return tuple(sorted(edges, key=lambda ends: (ends[1], ends[0])))


def _fill_channels(node: Any, channels: int) -> Any:
    """Return the node with CHANNELS replaced by the number of channels."""
    if isinstance(node, Mapping):
        return {name: _fill_channels(value, channels) for name, value in node.items()}
    if isinstance(node, list):
        return [_fill_channels(value, channels) for value in node]
    return channels if node == CHANNELS else node


def _to_plain(node: Any) -> Any:
    """Return a node of YAML with plain dicts and lists, as in JSON."""
    if isinstance(node, Mapping):
        return {str(name): _to_plain(value) for name, value in node.items()}
    return [_to_plain(value) for value in node] if isinstance(node, list | tuple) else node
