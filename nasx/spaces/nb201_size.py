"""The sizes of NAS-Bench-201's skeleton as genes: the channels of each stage, of one cell or together with the cell.

After the size space of NATS-Bench (Dong, Liu, Musial and Gabrys, IEEE TPAMI 2021), which searches the channels of one
fixed cell, the one with the best published accuracy on CIFAR-100, once a stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nasx.errors import ArchitectureError, SettingError
from nasx.networks.edge import Edge
from nasx.spaces.nb201 import (
    ALLELES,
    EDGES,
    N_NODES,
    NASBench201,
    Operations,
    canonical_cell,
    cell_edges,
    check_at_least_1,
    count_parameters,
    live_edges,
    parse_cell,
)
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

N_STAGES: Final = 3
WIDTHS: Final = (8, 16, 24, 32, 40, 48, 56, 64)
BEST_CELL: Final = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
STAGE_NAMES: Final = tuple(f"channels of stage {stage}" for stage in range(1, N_STAGES + 1))


class _SizedSpace:
    """What both spaces share: networks of a cell and of three widths out of a list."""

    widths: tuple[int, ...]
    cells: int

    def _set_sizes(self, widths: Sequence[int], cells: int) -> None:
        check_at_least_1(cells=cells)
        if len(widths) < 2 or len(set(widths)) < len(widths):
            raise SettingError("widths", f"must be at least two different numbers of channels, got {list(widths)}")
        check_at_least_1(widths=min(widths))
        self.widths = tuple(widths)
        self.cells = cells

    def _write(self, genes: Sequence[int]) -> str:
        return ":".join(str(self.widths[gene]) for gene in genes)

    def _read(self, text: str) -> Genotype:
        if not re.fullmatch(r"\d+(:\d+)*", text):
            raise ArchitectureError(f"channels must be written as 16:32:64, a number a stage, got {text!r}.")
        numbers = [int(number) for number in text.split(":")]
        if len(numbers) != N_STAGES:
            raise ArchitectureError(f"there are {N_STAGES} stages, got the channels of {len(numbers)} in {text!r}.")
        if unknown := [number for number in numbers if number not in self.widths]:
            raise ArchitectureError(f"{unknown[0]} channels are none of {', '.join(map(str, self.widths))}.")
        return tuple(self.widths.index(number) for number in numbers)

    def _network(
        self, operations: Operations, genes: Sequence[int], input_shape: tuple[int, int, int], n_classes: int
    ) -> nn.Sequential:
        edges = live_edges(operations)
        from nasx.networks.skeletons import cell_network  # here: who only reads genotypes need not load torch

        widths = [self.widths[gene] for gene in genes]
        return cell_network(edges, widths=widths, cells=self.cells, input_shape=input_shape, n_classes=n_classes)


class NASBench201Size(_SizedSpace):
    """One cell of NAS-Bench-201; a gene a stage decides its channels."""

    name: ClassVar[str] = "nb201_size"
    gene_names = STAGE_NAMES

    def __init__(self, *, cell: str = BEST_CELL, widths: tuple[int, ...] = WIDTHS, cells: int = 1) -> None:
        """`cell`: in its string form. `widths`: channels that a stage may have. `cells`: a stage."""
        self._set_sizes(widths, cells)
        try:
            self.operations = parse_cell(cell, EDGES, ALLELES, N_NODES)
            live_edges(self.operations)
        except ArchitectureError as error:
            raise SettingError("cell", f"is no cell of NAS-Bench-201: {error}") from error
        self.cell = cell

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        return (len(self.widths),) * N_STAGES

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"cell": self.cell, "widths": list(self.widths), "cells": self.cells}

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return tuple(map(str, self.widths))

    def canonical(self, genotype: Genotype) -> Genotype:
        """Itself: networks of different widths are different networks."""
        return genotype

    def is_connected(self, genotype: Genotype) -> bool:
        return True

    def edges(self, genotype: Genotype) -> list[Edge]:
        """The edges of the cell, the same for every genotype."""
        return cell_edges(self.operations)

    def describe(self, genotype: Genotype) -> str:
        """The published string form.

        >>> NASBench201Size().describe((0, 1, 7))
        '8:16:64'
        """
        return self._write(genotype)

    def parse(self, text: str) -> Genotype:
        return self._read(text.strip())

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        return self._network(self.operations, genotype, input_shape, n_classes)

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Trainable parameters of the network that `build` makes for images of up to 32 pixels, without building it."""
        widths = [self.widths[gene] for gene in genotype]
        return count_parameters(self.operations, widths, self.cells, input_channels=input_channels, n_classes=n_classes)


class NASBench201Joint(_SizedSpace):
    """Cell and channels at once: six genes for the operations on the edges, then one a stage for its channels."""

    name: ClassVar[str] = "nb201_joint"
    gene_names = NASBench201.gene_names + STAGE_NAMES

    def __init__(self, *, widths: tuple[int, ...] = WIDTHS, cells: int = 5) -> None:
        """`widths`: channels that a stage may have. `cells`: a stage."""
        self._set_sizes(widths, cells)

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        return (*NASBench201.gene_sizes, *(len(self.widths),) * N_STAGES)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"widths": list(self.widths), "cells": self.cells}

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return ALLELES if gene < len(EDGES) else tuple(map(str, self.widths))

    def canonical(self, genotype: Genotype) -> Genotype:
        """The canonical cell with the same channels; all disconnected encodings share one."""
        operations = canonical_cell(_operations(genotype))
        widths = genotype[len(EDGES) :] if self.is_connected(genotype) else (0,) * N_STAGES
        return (*(ALLELES.index(operation) for operation in operations), *widths)

    def is_connected(self, genotype: Genotype) -> bool:
        return _CELLS.is_connected(genotype[: len(EDGES)])

    def edges(self, genotype: Genotype) -> list[Edge]:
        """The edges of the cell that carry an operation, dead or live."""
        return cell_edges(_operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        """The string forms of both, as `|...|+|...|+|...| 8:16:64`."""
        return f"{_CELLS.describe(genotype[: len(EDGES)])} {self._write(genotype[len(EDGES) :])}"

    def parse(self, text: str) -> Genotype:
        parts = text.split()
        if len(parts) != 2:
            raise ArchitectureError(f"an architecture is a cell and its channels, CELL 16:32:64, got {text!r}.")
        return (*_CELLS.parse(parts[0]), *self._read(parts[1]))

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """The network of the canonical encoding. Raises ArchitectureError where the cell is disconnected."""
        return self._network(_operations(genotype), genotype[len(EDGES) :], input_shape, n_classes)

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Trainable parameters of the network that `build` makes for images of up to 32 pixels, without building it."""
        widths = [self.widths[gene] for gene in genotype[len(EDGES) :]]
        return count_parameters(
            _operations(genotype), widths, self.cells, input_channels=input_channels, n_classes=n_classes
        )


_CELLS: Final = NASBench201()  # its names and string form


def _operations(genotype: Genotype) -> Operations:
    return tuple(ALLELES[allele] for allele in genotype[: len(EDGES)])
