"""The search space of NAS-Bench-201: a cell of four nodes whose six edges each carry one of five operations.

Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from nasx.errors import ArchitectureError, SettingError, did_you_mean
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, NONE, SKIP, Edge
from nasx.spaces.normal_form import NormalForm, normal_form
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

N_NODES: Final = 4
# genes in the order of the string form: the edges into node 1, then into node 2, then into node 3
EDGES: Final = tuple((source, target) for target in range(1, N_NODES) for source in range(target))
ALLELES: Final = (NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL)
KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}


class NASBench201:
    """Cells of NAS-Bench-201 in its skeleton of three stages."""

    name = "nb201"
    gene_sizes = (len(ALLELES),) * len(EDGES)
    gene_names = tuple(f"edge {source}→{target}" for source, target in EDGES)

    def __init__(self, *, channels: int = 16, cells: int = 5) -> None:
        """`channels`: of the first stage; the others have twice and four times as many. `cells`: a stage."""
        if channels < 1:
            raise SettingError("channels", f"must be at least 1, got {channels}")
        if cells < 1:
            raise SettingError("cells", f"must be at least 1, got {cells}")
        self.channels = channels
        self.cells = cells

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"channels": self.channels, "cells": self.cells}

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return ALLELES

    def canonical(self, genotype: Genotype) -> Genotype:
        """The encoding of the same network with the fewest operations, then the smallest."""
        return _representatives()[_text(genotype)]

    def is_connected(self, genotype: Genotype) -> bool:
        return _normal_form(genotype) is not None

    def edges(self, genotype: Genotype) -> list[Edge]:
        """The edges that carry an operation, dead or live."""
        return [Edge(*edge, ALLELES[a]) for edge, a in zip(EDGES, genotype, strict=True) if ALLELES[a] != NONE]

    def describe(self, genotype: Genotype) -> str:
        """The published string form.

        >>> NASBench201().describe((3, 3, 4, 1, 3, 1))[:34]
        '|nor_conv_3x3~0|+|nor_conv_3x3~0|a'
        """
        edges = zip(EDGES, genotype, strict=True)
        parts = dict.fromkeys(range(1, N_NODES), "|")
        for (source, target), allele in edges:
            parts[target] += f"{ALLELES[allele]}~{source}|"
        return "+".join(parts.values())

    def parse(self, text: str) -> Genotype:
        nodes = text.strip().split("+")
        if len(nodes) != N_NODES - 1:
            raise ArchitectureError(
                f"an architecture has {N_NODES - 1} nodes joined by '+', got {len(nodes)} in {text!r}."
            )
        alleles: list[int] = []
        for target, node in enumerate(nodes, start=1):
            tokens = re.fullmatch(r"\|" + r"([^|~]+)~(\d+)\|" * target, node)
            if tokens is None or [int(s) for s in tokens.groups()[1::2]] != list(range(target)):
                wanted = "|" + "".join(f"op~{source}|" for source in range(target))
                raise ArchitectureError(f"node {target} must be written {wanted}, got {node!r}.")
            for operation in tokens.groups()[::2]:
                if operation not in ALLELES:
                    raise ArchitectureError(f"unknown operation {operation!r}. {did_you_mean(operation, ALLELES)}")
                alleles.append(ALLELES.index(operation))
        return tuple(alleles)

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """The network of the canonical encoding, so that all encodings of a network build the very same one.

        Raises ArchitectureError where the cell is disconnected.
        """
        if not self.is_connected(genotype):
            raise ArchitectureError(f"{self.describe(genotype)} joins its input to no output: it is no network.")
        from nasx.networks.skeleton import cell_network  # here: who only reads genotypes need not load torch

        return cell_network(
            self.edges(self.canonical(genotype)),
            channels=self.channels,
            cells=self.cells,
            input_channels=input_shape[0],
            n_classes=n_classes,
        )

    def parameters(self, genotype: Genotype, *, input_channels: int = 3, n_classes: int) -> int:
        """Trainable parameters of the network that `build` makes, without building it."""
        form = _normal_form(genotype)
        kernels = [KERNELS[edge.operation] for edge in form.convolutions] if form else []
        c, final = self.channels, 4 * self.channels

        def conv_bn(c_in: int, c_out: int, kernel: int) -> int:
            return kernel**2 * c_in * c_out + 2 * c_out

        stem = conv_bn(input_channels, c, 3)
        cells = sum(self.cells * conv_bn(w, w, k) for w in (c, 2 * c, 4 * c) for k in kernels)
        reductions = sum(conv_bn(w, 2 * w, 3) + conv_bn(2 * w, 2 * w, 3) + 2 * w * w for w in (c, 2 * c))
        head = 2 * final + final * n_classes + n_classes
        return stem + cells + reductions + head


@cache
def _normal_form(genotype: Genotype) -> NormalForm | None:
    return normal_form({edge: ALLELES[a] for edge, a in zip(EDGES, genotype, strict=True)}, N_NODES)


def _text(genotype: Genotype) -> str:
    form = _normal_form(genotype)
    return form.text if form else ""


@cache
def _representatives() -> Mapping[str, Genotype]:
    """Normal form -> the encoding that stands for it. All disconnected cells share one: every edge none."""
    found: dict[str, Genotype] = {}
    everything = product(range(len(ALLELES)), repeat=len(EDGES))
    for genotype in sorted(everything, key=lambda g: (sum(ALLELES[a] != NONE for a in g), g)):
        found.setdefault(_text(genotype), genotype)
    return found


def n_networks() -> int:
    """How many distinct networks the 15,625 encodings are, the disconnected left out."""
    return len(_representatives()) - 1
