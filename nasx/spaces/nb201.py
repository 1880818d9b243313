"""NAS-Bench-201: a cell of four nodes with one of five operations on each of its six edges.

Includes the published string form of cells, for any number of nodes, and the variant of the paper's published code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import as_file, files
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nasx.config.settings import checked
from nasx.errors import ArchitectureError, did_you_mean
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, NONE, SKIP, Edge
from nasx.spaces.choices import Size
from nasx.spaces.normal_form import NormalForm, normal_form
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

Ends: TypeAlias = tuple[int, int]  # (source, target) of an edge, source < target


def all_edges(n_nodes: int) -> tuple[Ends, ...]:
    """Return every possible edge of a cell in the order of the string form: into node 1, then into node 2, ...

    >>> all_edges(3)
    ((0, 1), (0, 2), (1, 2))
    """
    return tuple((source, target) for target in range(1, n_nodes) for source in range(target))


def format_cell(edges: Sequence[Ends], operations: Sequence[str], n_nodes: int) -> str:
    """Return the string form of a cell.

    Args:
        edges: (source, target) of each edge.
        operations: name of the operation on each edge.
        n_nodes: nodes of the cell, with input and output.

    >>> format_cell(all_edges(3), ["conv", "none", "skip"], 3)
    '|conv~0|+|none~0|skip~1|'
    """
    parts = dict.fromkeys(range(1, n_nodes), "|")
    for (source, target), operation in zip(edges, operations, strict=True):
        parts[target] += f"{operation}~{source}|"
    return "+".join(parts.values())


def parse_cell(text: str, edges: Sequence[Ends], known: Sequence[str], n_nodes: int) -> tuple[str, ...]:
    """Return the operations in the string form of a cell, in the order of `edges`.

    Args:
        text: string form, e.g. "|conv~0|+|none~0|skip~1|".
        edges: (source, target) of each edge of the cell.
        known: names of the operations of the space.
        n_nodes: nodes of the cell, with input and output.

    Raises:
        ArchitectureError: if the text is malformed or names an unknown operation.
    """
    nodes = text.strip().split("+")
    if len(nodes) != n_nodes - 1:
        raise ArchitectureError(f"expected {n_nodes - 1} nodes joined by '+', got {len(nodes)} in {text!r}.")
    found: dict[Ends, str] = {}
    for target, node in enumerate(nodes, start=1):
        sources = [source for source, end in edges if end == target]
        tokens = re.fullmatch(r"\|" + r"([^|~]+)~(\d+)\|" * len(sources), node)
        if tokens is None or [int(s) for s in tokens.groups()[1::2]] != sources:
            expected = "|" + "".join(f"op~{source}|" for source in sources)
            raise ArchitectureError(f"node {target} must be written {expected}, got {node!r}.")
        for source, operation in zip(sources, tokens.groups()[::2], strict=True):
            if operation not in known:
                raise ArchitectureError(f"unknown operation {operation!r}. {did_you_mean(operation, known)}")
            found[source, target] = operation
    return tuple(found[ends] for ends in edges)


N_NODES: Final = 4
EDGES: Final = all_edges(N_NODES)  # genes in the order of the string form
ALLELES: Final = (NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL)
KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}
Operations: TypeAlias = tuple[str, ...]  # one per edge, in the order of EDGES


class NASBench201:
    """Search space of NAS-Bench-201: its cells in its skeleton of three stages."""

    name: ClassVar[str] = "nb201"
    alleles: ClassVar[tuple[str, ...]] = ALLELES
    gene_sizes = (len(ALLELES),) * len(EDGES)
    gene_names = tuple(f"edge {source}→{target}" for source, target in EDGES)

    @checked
    def __init__(self, *, channels: Size = 16, cells: Size = 5) -> None:
        """Store the sizes of the skeleton.

        Args:
            channels: channels of the first stage; the second has twice, the third four times as many.
            cells: cells per stage.
        """
        self.channels = channels
        self.cells = cells

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"channels": self.channels, "cells": self.cells}

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the three stages."""
        return self.channels, 2 * self.channels, 4 * self.channels

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return self.alleles

    def canonical(self, genotype: Genotype) -> Genotype:
        """Return the encoding of the same network with the fewest operations; of several, the smallest."""
        return self._genotype(canonical_cell(self._operations(genotype)))

    def is_connected(self, genotype: Genotype) -> bool:
        return cell_form(self._operations(genotype)) is not None

    def edges(self, genotype: Genotype) -> list[Edge]:
        """Return the edges that carry an operation, on a path to the output or not."""
        return cell_edges(self._operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        """Return the published string form.

        >>> NASBench201().describe((3, 3, 4, 1, 3, 1))[:34]
        '|nor_conv_3x3~0|+|nor_conv_3x3~0|a'
        """
        return format_cell(EDGES, self._operations(genotype), N_NODES)

    def parse(self, text: str) -> Genotype:
        return self._genotype(parse_cell(text, EDGES, ALLELES, N_NODES))

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return the network of the canonical encoding, so that all encodings of a network build the same modules.

        Raises ArchitectureError if the cell is disconnected.
        """
        edges = live_edges(self._operations(genotype))
        from nasx.networks.skeletons import cell_network  # torch takes seconds to load

        return cell_network(edges, widths=self.widths, cells=self.cells, input_shape=input_shape, n_classes=n_classes)

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Return the trainable parameters of the network for images of up to 32 x 32 pixels, without building it."""
        return count_parameters(
            self._operations(genotype), self.widths, self.cells, input_channels=input_channels, n_classes=n_classes
        )

    def _operations(self, genotype: Genotype) -> Operations:
        return tuple(self.alleles[allele] for allele in genotype)

    def _genotype(self, operations: Operations) -> Genotype:
        return tuple(self.alleles.index(operation) for operation in operations)


def cell_edges(operations: Operations) -> list[Edge]:
    """Return the edges of a cell that carry an operation."""
    return [Edge(*ends, operation) for ends, operation in zip(EDGES, operations, strict=True) if operation != NONE]


def live_edges(operations: Operations) -> list[Edge]:
    """Return the edges of the canonical encoding. Raises ArchitectureError if the cell is disconnected."""
    if cell_form(operations) is None:
        cell = format_cell(EDGES, operations, N_NODES)
        raise ArchitectureError(f"{cell} is disconnected: no path leads from its input to its output.")
    return cell_edges(canonical_cell(operations))


@cache
def cell_form(operations: Operations) -> NormalForm | None:
    """Return the normal form of a cell; None if it is disconnected."""
    return normal_form(dict(zip(EDGES, operations, strict=True)), N_NODES)


@cache
def canonical_cell(operations: Operations) -> Operations:
    """Return the canonical encoding of a cell. All disconnected cells have the same one: every edge none."""
    table = _representatives()
    index = np.ravel_multi_index([ALLELES.index(o) for o in operations], table.shape)
    return tuple(ALLELES[a] for a in np.unravel_index(table.flat[index], table.shape))


@cache
def _representatives() -> NDArray[np.uint16]:
    """Return the index of the canonical encoding, by the six alleles of an encoding.

    Read from a file, because computing the table takes a second in every worker. A test computes it again.
    """
    with as_file(files("nasx.spaces") / "nb201_representatives.npy") as file:
        table: NDArray[np.uint16] = np.load(file, allow_pickle=False)
    return table.reshape((len(ALLELES),) * len(EDGES))


def count_parameters(
    operations: Operations, widths: Sequence[int], cells: int, *, input_channels: int, n_classes: int
) -> int:
    """Return the trainable parameters of the network of a cell for images of up to 32 x 32 pixels.

    A disconnected cell has no parameters of its own.

    Args:
        operations: operation on each edge of the cell.
        widths: channels of each stage.
        cells: cells per stage.
        input_channels: channels of the images.
        n_classes: classes of the dataset.
    """
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
    """Search space of the paper's published code: cells of NAS-Bench-201 in a skeleton of its own."""

    name = "nb201_xnas"
    alleles = (CONV_3X3, CONV_1X1, AVG_POOL, NONE, SKIP)

    @checked
    def __init__(
        self,
        *,
        channels: Size = 16,
        cells: Size = 5,
        norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01,
    ) -> None:
        """Store the sizes of the skeleton.

        Args:
            channels: channels of the first stage; the second has twice, the third four times as many.
            cells: cells per stage.
            norm_momentum: share of each batch in the running statistics of batch norm.
        """
        super().__init__(channels=channels, cells=cells)
        self.norm_momentum = norm_momentum

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "norm_momentum": self.norm_momentum}

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return the network of the canonical encoding. Raises ArchitectureError if the cell is disconnected."""
        edges = live_edges(self._operations(genotype))
        from nasx.networks.skeletons import xnas_network  # torch takes seconds to load

        return xnas_network(
            edges,
            widths=self.widths,
            cells=self.cells,
            norm_momentum=self.norm_momentum,
            input_shape=input_shape,
            n_classes=n_classes,
        )

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Return the trainable parameters of the network for images of up to 32 x 32 pixels, without building it."""
        published = super().parameters(genotype, input_channels=input_channels, n_classes=n_classes)
        _, second, third = self.widths
        # the head has no batch norm, and the shortcuts of the residual blocks have a bias
        return published - 2 * third + second + third
