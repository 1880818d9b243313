"""Search spaces with the channels of each stage of NAS-Bench-201's skeleton as genes, for a fixed or a searched cell.

After the size space of NATS-Bench (Dong, Liu, Musial and Gabrys, IEEE TPAMI 2021): it searches the channels for one
fixed cell, the one with the best published accuracy on CIFAR-100, with one cell per stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeAlias

from pydantic import AfterValidator, Field

from nasx.config.settings import checked
from nasx.errors import ArchitectureError, SettingError
from nasx.networks.edge import Edge
from nasx.spaces.choices import Size, all_different
from nasx.spaces.nb201 import (
    ALLELES,
    EDGES,
    N_NODES,
    NASBench201,
    Operations,
    canonical_cell,
    cell_edges,
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


Widths: TypeAlias = Annotated[tuple[Size, ...], Field(min_length=2), AfterValidator(all_different)]


class _SizedSpace:
    """Base of both spaces: the channels of each stage are chosen from a list."""

    widths: tuple[int, ...]
    cells: int

    def _format_widths(self, genes: Sequence[int]) -> str:
        return ":".join(str(self.widths[gene]) for gene in genes)

    def _parse_widths(self, text: str) -> Genotype:
        if not re.fullmatch(r"\d+(:\d+)*", text):
            raise ArchitectureError(f"channels must be written as 16:32:64, a number per stage, got {text!r}.")
        numbers = [int(number) for number in text.split(":")]
        if len(numbers) != N_STAGES:
            raise ArchitectureError(
                f"expected the channels of {N_STAGES} stages, got those of {len(numbers)} in {text!r}."
            )
        if unknown := [number for number in numbers if number not in self.widths]:
            raise ArchitectureError(f"channels must be one of {', '.join(map(str, self.widths))}, got {unknown[0]}.")
        return tuple(self.widths.index(number) for number in numbers)

    def _network(
        self, operations: Operations, genes: Sequence[int], input_shape: tuple[int, int, int], n_classes: int
    ) -> nn.Sequential:
        edges = live_edges(operations)
        from nasx.networks.skeletons import cell_network  # torch takes seconds to load

        widths = [self.widths[gene] for gene in genes]
        return cell_network(edges, widths=widths, cells=self.cells, input_shape=input_shape, n_classes=n_classes)


class NASBench201Size(_SizedSpace):
    """Search space of channels: one fixed cell of NAS-Bench-201, and one gene per stage for its channels."""

    name: ClassVar[str] = "nb201_size"
    gene_names = STAGE_NAMES

    @checked
    def __init__(self, *, cell: str = BEST_CELL, widths: Widths = WIDTHS, cells: Size = 1) -> None:
        """Store the choices and parse the cell.

        Args:
            cell: string form of the cell.
            widths: channels that a stage may have.
            cells: cells per stage.
        """
        self.widths = widths
        self.cells = cells
        try:
            self.operations = parse_cell(cell, EDGES, ALLELES, N_NODES)
            live_edges(self.operations)
        except ArchitectureError as error:
            raise SettingError("cell", f"must be a cell of NAS-Bench-201: {error}") from error
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
        """Return the genotype itself: different channels are different networks."""
        return genotype

    def is_connected(self, genotype: Genotype) -> bool:
        return True

    def edges(self, genotype: Genotype) -> list[Edge]:
        """Return the edges of the cell, the same for every genotype."""
        return cell_edges(self.operations)

    def describe(self, genotype: Genotype) -> str:
        """Return the published string form.

        >>> NASBench201Size().describe((0, 1, 7))
        '8:16:64'
        """
        return self._format_widths(genotype)

    def parse(self, text: str) -> Genotype:
        return self._parse_widths(text.strip())

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        return self._network(self.operations, genotype, input_shape, n_classes)

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Return the trainable parameters of the network for images of up to 32 x 32 pixels, without building it."""
        widths = [self.widths[gene] for gene in genotype]
        return count_parameters(self.operations, widths, self.cells, input_channels=input_channels, n_classes=n_classes)


class NASBench201Joint(_SizedSpace):
    """Search space of cell and channels: six genes for the operations, then one per stage for its channels."""

    name: ClassVar[str] = "nb201_joint"
    gene_names = NASBench201.gene_names + STAGE_NAMES

    @checked
    def __init__(self, *, widths: Widths = WIDTHS, cells: Size = 5) -> None:
        """Store the choices.

        Args:
            widths: channels that a stage may have.
            cells: cells per stage.
        """
        self.widths = widths
        self.cells = cells

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        return (*NASBench201.gene_sizes, *(len(self.widths),) * N_STAGES)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"widths": list(self.widths), "cells": self.cells}

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return ALLELES if gene < len(EDGES) else tuple(map(str, self.widths))

    def canonical(self, genotype: Genotype) -> Genotype:
        """Return the canonical cell with the same channels; all disconnected encodings have the same canonical form."""
        operations = canonical_cell(_operations(genotype))
        widths = genotype[len(EDGES) :] if self.is_connected(genotype) else (0,) * N_STAGES
        return (*(ALLELES.index(operation) for operation in operations), *widths)

    def is_connected(self, genotype: Genotype) -> bool:
        return _CELLS.is_connected(genotype[: len(EDGES)])

    def edges(self, genotype: Genotype) -> list[Edge]:
        """Return the edges that carry an operation, on a path to the output or not."""
        return cell_edges(_operations(genotype))

    def describe(self, genotype: Genotype) -> str:
        """Return the string forms of cell and channels, as `|...|+|...|+|...| 8:16:64`."""
        return f"{_CELLS.describe(genotype[: len(EDGES)])} {self._format_widths(genotype[len(EDGES) :])}"

    def parse(self, text: str) -> Genotype:
        parts = text.split()
        if len(parts) != 2:
            raise ArchitectureError(
                f"an architecture must be written as CELL 16:32:64 (cell and channels), got {text!r}."
            )
        return (*_CELLS.parse(parts[0]), *self._parse_widths(parts[1]))

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return the network of the canonical encoding. Raises ArchitectureError if the cell is disconnected."""
        return self._network(_operations(genotype), genotype[len(EDGES) :], input_shape, n_classes)

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Return the trainable parameters of the network for images of up to 32 x 32 pixels, without building it."""
        widths = [self.widths[gene] for gene in genotype[len(EDGES) :]]
        return count_parameters(
            _operations(genotype), widths, self.cells, input_channels=input_channels, n_classes=n_classes
        )


_CELLS: Final = NASBench201()  # for the string form and connectivity of cells


def _operations(genotype: Genotype) -> Operations:
    return tuple(ALLELES[allele] for allele in genotype[: len(EDGES)])
