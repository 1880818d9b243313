"""NAS-Bench-201: a cell of four nodes whose six edges each carry one of five operations.

Includes the published string form of cells, for any number of nodes, and the variant of the paper's published code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import as_file, files
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasx.errors import ArchitectureError, SettingError, did_you_mean
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, NONE, SKIP, Edge
from nasx.spaces.normal_form import NormalForm, normal_form
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

Ends: TypeAlias = tuple[int, int]  # (source, target) of an edge, source < target


def all_edges(n_nodes: int) -> tuple[Ends, ...]:
    """Every edge of a cell, in the order of the string form: into node 1, then into node 2, ...

    >>> all_edges(3)
    ((0, 1), (0, 2), (1, 2))
    """
    return tuple((source, target) for target in range(1, n_nodes) for source in range(target))


def format_cell(edges: Sequence[Ends], operations: Sequence[str], n_nodes: int) -> str:
    """The string form of a cell with one operation an edge.

    >>> write_cell(all_edges(3), ["conv", "none", "skip"], 3)
    '|conv~0|+|none~0|skip~1|'
    """
    parts = dict.fromkeys(range(1, n_nodes), "|")
    for (source, target), operation in zip(edges, operations, strict=True):
        parts[target] += f"{operation}~{source}|"
    return "+".join(parts.values())


def parse_cell(text: str, edges: Sequence[Ends], known: Sequence[str], n_nodes: int) -> tuple[str, ...]:
    """The operations that a string form names, in the order of `edges`; `known` are those there are.

    Raises ArchitectureError saying what is wrong where.
    """
    nodes = text.strip().split("+")
    if len(nodes) != n_nodes - 1:
        raise ArchitectureError(f"an architecture has {n_nodes - 1} nodes joined by '+', got {len(nodes)} in {text!r}.")
    found: dict[Ends, str] = {}
    for target, node in enumerate(nodes, start=1):
        sources = [source for source, end in edges if end == target]
        tokens = re.fullmatch(r"\|" + r"([^|~]+)~(\d+)\|" * len(sources), node)
        if tokens is None or [int(s) for s in tokens.groups()[1::2]] != sources:
            wanted = "|" + "".join(f"op~{source}|" for source in sources)
            raise ArchitectureError(f"node {target} must be written {wanted}, got {node!r}.")
        for source, operation in zip(sources, tokens.groups()[::2], strict=True):
            if operation not in known:
                raise ArchitectureError(f"unknown operation {operation!r}. {did_you_mean(operation, known)}")
            found[source, target] = operation
    return tuple(found[ends] for ends in edges)


N_NODES: Final = 4
EDGES: Final = all_edges(N_NODES)  # genes in the order of the string form
ALLELES: Final = (NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL)
KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}
Operations: TypeAlias = tuple[str, ...]  # one an edge, in the order of EDGES


class NASBench201:
    """Cells of NAS-Bench-201 in its skeleton of three stages."""

    name: ClassVar[str] = "nb201"
    alleles: ClassVar[tuple[str, ...]] = ALLELES
    gene_sizes = (len(ALLELES),) * len(EDGES)
    gene_names = tuple(f"edge {source}→{target}" for source, target in EDGES)

    def __init__(self, *, channels: int = 16, cells: int = 5) -> None:
        """`channels`: of the first stage; the others have twice and four times as many. `cells`: a stage."""
        check_at_least_1(channels=channels, cells=cells)
        self.channels = channels
        self.cells = cells

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"channels": self.channels, "cells": self.cells}

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the stages."""
        return self.channels, 2 * self.channels, 4 * self.channels

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return self.alleles

    def canonical(self, genotype: Genotype) -> Genotype:
        """The encoding of the same network with the fewest operations, then the smallest."""
        return self._genotype(canonical_cell(self._operations(genotype)))

    def is_connected(self, genotype: Genotype) -> bool:
        return cell_form(self._operations(genotype)) is not None

    def edges(self, genotype: Genotype) -> list[Edge]:
        """The edges that carry an operation, dead or live."""
        return cell_edges(self._operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        """The published string form.

        >>> NASBench201().describe((3, 3, 4, 1, 3, 1))[:34]
        '|nor_conv_3x3~0|+|nor_conv_3x3~0|a'
        """
        return format_cell(EDGES, self._operations(genotype), N_NODES)

    def parse(self, text: str) -> Genotype:
        return self._genotype(parse_cell(text, EDGES, ALLELES, N_NODES))

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """The network of the canonical encoding, so that all encodings of a network build the very same one.

        Raises ArchitectureError where the cell is disconnected.
        """
        edges = live_edges(self._operations(genotype))
        from nasx.networks.skeletons import cell_network  # here: who only reads genotypes need not load torch

        return cell_network(edges, widths=self.widths, cells=self.cells, input_shape=input_shape, n_classes=n_classes)

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Trainable parameters of the network that `build` makes for images of up to 32 pixels, without building it."""
        return count_parameters(
            self._operations(genotype), self.widths, self.cells, input_channels=input_channels, n_classes=n_classes
        )

    def _operations(self, genotype: Genotype) -> Operations:
        return tuple(self.alleles[allele] for allele in genotype)

    def _genotype(self, operations: Operations) -> Genotype:
        return tuple(self.alleles.index(operation) for operation in operations)


def check_at_least_1(**values: int) -> None:
    """Raise SettingError for a setting below 1."""
    for name, value in values.items():
        if value < 1:
            raise SettingError(name, f"must be at least 1, got {value}")


def cell_edges(operations: Operations) -> list[Edge]:
    """The edges of a cell that carry an operation."""
    return [Edge(*ends, operation) for ends, operation in zip(EDGES, operations, strict=True) if operation != NONE]


def live_edges(operations: Operations) -> list[Edge]:
    """The edges of the canonical encoding. Raises ArchitectureError where the cell is disconnected."""
    if cell_form(operations) is None:
        cell = format_cell(EDGES, operations, N_NODES)
        raise ArchitectureError(f"{cell} joins its input to no output: it is no network.")
    return cell_edges(canonical_cell(operations))


@cache
def cell_form(operations: Operations) -> NormalForm | None:
    """The normal form of a cell; None where it is disconnected."""
    return normal_form(dict(zip(EDGES, operations, strict=True)), N_NODES)


@cache
def canonical_cell(operations: Operations) -> Operations:
    """The encoding that stands for all those of the same cell. All disconnected cells share one: every edge none."""
    table = _representatives()
    place = np.ravel_multi_index([ALLELES.index(o) for o in operations], table.shape)
    return tuple(ALLELES[a] for a in np.unravel_index(table.flat[place], table.shape))


@cache
def _representatives() -> NDArray[np.uint16]:
    """The place of the encoding that stands for each one, both by alleles.

    Read from a file, since finding them takes a second, and every worker needs them. The tests find them again.
    """
    with as_file(files("nasx.spaces") / "nb201_representatives.npy") as file:
        table: NDArray[np.uint16] = np.load(file, allow_pickle=False)
    return table.reshape((len(ALLELES),) * len(EDGES))


def count_parameters(
    operations: Operations, widths: Sequence[int], cells: int, *, input_channels: int, n_classes: int
) -> int:
    """Trainable parameters of the network of a cell, for images of up to 32 pixels; a disconnected cell has none."""
    form = cell_form(operations)
    kernels = [KERNELS[edge.operation] for edge in form.convolutions] if form else []

    def conv_bn(c_in: int, c_out: int, kernel: int) -> int:
        return kernel**2 * c_in * c_out + 2 * c_out

    stem = conv_bn(input_channels, widths[0], 3)
    in_cells = sum(cells * conv_bn(w, w, k) for w in widths for k in kernels)
    reductions = sum(conv_bn(a, b, 3) + conv_bn(b, b, 3) + a * b for a, b in pairwise(widths))
    head = 2 * widths[-1] + widths[-1] * n_classes + n_classes
    return stem + in_cells + reductions + head


class NASBench201XNAS(NASBench201):
    """Cells of NAS-Bench-201 in the skeleton of the paper's code."""

    name = "nb201_xnas"
    alleles = (CONV_3X3, CONV_1X1, AVG_POOL, NONE, SKIP)

    def __init__(self, *, channels: int = 16, cells: int = 5, norm_momentum: float = 0.01) -> None:
        """`channels`, `cells`: as in NAS-Bench-201. `norm_momentum`: share of a batch in batch norm's statistics."""
        super().__init__(channels=channels, cells=cells)
        if not 0 < norm_momentum <= 1:
            raise SettingError("norm_momentum", f"must be a share above 0 and up to 1, got {norm_momentum}")
        self.norm_momentum = norm_momentum

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "norm_momentum": self.norm_momentum}

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """The network of the canonical encoding. Raises ArchitectureError where the cell is disconnected."""
        edges = live_edges(self._operations(genotype))
        from nasx.networks.skeletons import xnas_network  # here: who only reads genotypes need not load torch

        return xnas_network(
            edges,
            widths=self.widths,
            cells=self.cells,
            norm_momentum=self.norm_momentum,
            input_shape=input_shape,
            n_classes=n_classes,
        )

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Trainable parameters of the network that `build` makes for images of up to 32 pixels, without building it."""
        published = super().parameters(genotype, input_channels=input_channels, n_classes=n_classes)
        _, second, third = self.widths
        # there is no batch norm in the head, and the shortcuts of the residual blocks have a bias
        return published - 2 * third + second + third
