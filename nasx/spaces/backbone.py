"""Search space of networks on a pretrained backbone: its cut, and the small network that is trained on top.

The searched part is an optional projection (1x1 convolution, batch norm, ReLU), up to two cells of NAS-Bench-201's
operations at the width of the projection, pooling, and a classifier. The backbone is frozen, so its feature maps are
computed once (see `nasx.backbones.features`).
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from nasx.config.settings import checked
from nasx.errors import ArchitectureError, SettingError, did_you_mean
from nasx.networks.edge import Edge
from nasx.spaces.choices import Choices, Size
from nasx.spaces.nb201 import (
    ALLELES,
    EDGES,
    N_NODES,
    NASBench201,
    Operations,
    canonical_cell,
    cell_edges,
    cell_form,
    format_cell,
    live_edges,
    parse_cell,
)
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

    from nasx.backbones.pretrained import Preprocessing, Pretrained

Pooling = Literal["average", "max", "gem"]
Head = Literal["linear", "cosine", "hidden"]
# Without loading the network: names of the cuts for tables and reports, from the coarsest resolution but one on
DEFAULT_CUTS: Final[Mapping[str, tuple[str, ...]]] = {"efficientnet_lite0": ("stage5", "stage6", "stage7")}
LAST_STAGES: Final = 3  # cuts of another backbone, by default after each of its last stages
CUT, PROJECTION, CELL, CELLS, POOLING, HEAD, DROPOUT = 0, 1, 2, 8, 9, 10, 11  # positions of the genes
IDENTITY: Final = "x"  # normal form of a cell that returns its input


class BackboneSpace:
    """Search space of heads on a pretrained backbone."""

    name: ClassVar[str] = "backbone"

    @checked
    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        weights: Path | None = None,
        cuts: Choices[str] | None = None,
        projections: Choices[Annotated[int, Field(ge=0)]] = (0, 32, 64, 128),
        max_cells: Annotated[int, Field(ge=0)] = 2,
        poolings: Choices[Pooling] = ("average", "max", "gem"),
        heads: Choices[Head] = ("linear", "cosine", "hidden"),
        hidden: Size = 128,
        dropouts: Choices[Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.25, 0.5),
    ) -> None:
        """Store the choices. The backbone is loaded when it is first needed.

        Args:
            backbone: pretrained network. "efficientnet_lite0" comes with the extra `backbone`. "timm:NAME",
                "torchvision:NAME" and "transformers:NAME_OR_DIRECTORY" are networks of these libraries whose weights
                are on this machine. "module:factory" is a function that returns a network; it or the network may have
                an attribute `preprocessing`, a mapping with any of size, mean, std and interpolation, otherwise the
                images are normalized as those of ImageNet.
            weights: file of its weights, .safetensors or a state_dict of torch.save; None: those that belong to the
                name, or that the function loads.
            cuts: stages after which the backbone may be cut; None: the last three.
            projections: channels of the projection; 0: none, and then no cells.
            max_cells: maximum number of cells.
            poolings: poolings in front of the classifier.
            heads: kinds of classifiers.
            hidden: width of the hidden layer of the head "hidden".
            dropouts: shares of the numbers in front of the last layer that are set to 0 in training.
        """
        self.is_trained = True
        self.backbone = backbone
        self.weights = weights
        self.chosen_cuts = cuts
        self.projections = projections
        self.max_cells = max_cells
        self.poolings = poolings
        self.heads = heads
        self.hidden = hidden
        self.dropouts = dropouts

    # --- backbone

    def pretrained(self) -> Pretrained:
        """Return the backbone. Raises ConfigError, DataError or ResourceError if it cannot be loaded."""
        from nasx.backbones.load import load_backbone, load_untrained  # torch takes seconds to load

        return load_backbone(self.backbone, self.weights) if self.is_trained else load_untrained(self.backbone)

    def untrained(self) -> BackboneSpace:
        """Return the space with random weights of the backbone, for networks whose weights are all in one file."""
        space = copy.copy(self)
        space.is_trained = False
        return space

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the images on which the backbone was pretrained."""
        return self.pretrained().preprocessing

    @cached_property
    def cuts(self) -> tuple[str, ...]:
        """Names of the stages after which the backbone may be cut."""
        if self.chosen_cuts is not None:
            return self.chosen_cuts
        return DEFAULT_CUTS.get(self.backbone) or self.pretrained().stage_names[-LAST_STAGES:]

    # --- genes

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        return tuple(len(self.allele_names(gene)) for gene in range(len(self.gene_names)))

    @property
    def gene_names(self) -> tuple[str, ...]:
        return ("cut", "projection", *NASBench201.gene_names, "cells", "pooling", "head", "dropout")

    def allele_names(self, gene: int) -> tuple[str, ...]:
        if CELL <= gene < CELLS:
            return ALLELES
        return {
            CUT: self.cuts,
            PROJECTION: tuple(map(str, self.projections)),
            CELLS: tuple(map(str, range(self.max_cells + 1))),
            POOLING: self.poolings,
            HEAD: self.heads,
            DROPOUT: tuple(f"{share:g}" for share in self.dropouts),
        }[gene]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "backbone": self.backbone,
            "cuts": list(self.cuts),
            "projections": list(self.projections),
            "max_cells": self.max_cells,
            "poolings": list(self.poolings),
            "heads": list(self.heads),
            "hidden": self.hidden,
            "dropouts": list(self.dropouts),
        }

    def canonical(self, genotype: Genotype) -> Genotype:
        """Return the genotype with the canonical cell; without cells, with the first operations for all edges.

        There are no cells without a projection, and a cell that returns its input is none.
        """
        if not self.has_cells(genotype):
            cell, cells = (0,) * len(EDGES), 0
        else:
            cell, cells = tuple(ALLELES.index(o) for o in canonical_cell(_operations(genotype))), genotype[CELLS]
        return (*genotype[:CELL], *cell, cells, *genotype[POOLING:])

    def has_cells(self, genotype: Genotype) -> bool:
        """Return whether cells have an effect. Cells that are disconnected count: the network is disconnected."""
        if genotype[CELLS] == 0 or self.projections[genotype[PROJECTION]] == 0:
            return False
        form = cell_form(_operations(genotype))
        return form is None or form.text != f">{IDENTITY}"

    def is_connected(self, genotype: Genotype) -> bool:
        return not self.has_cells(genotype) or cell_form(_operations(genotype)) is not None

    def edges(self, genotype: Genotype) -> list[Edge]:
        """Return the edges of the cell that carry an operation; none if there are no cells."""
        return cell_edges(_operations(genotype)) if self.has_cells(genotype) else []

    def describe(self, genotype: Genotype) -> str:
        """Return the choices in words, without those that have no effect.

        >>> BackboneSpace().describe((1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1))
        'cut=stage6 projection=0 cells=0 pooling=gem head=linear dropout=0.25'
        """
        canonical = self.canonical(genotype)
        words = [f"{name}={self.allele_names(gene)[canonical[gene]]}" for name, gene in _WORDS.items()]
        if canonical[CELLS]:
            words.insert(list(_WORDS).index("cells") + 1, format_cell(EDGES, _operations(canonical), N_NODES))
        return " ".join(words)

    def parse(self, text: str) -> Genotype:
        words = text.split()
        cells = [word for word in words if word.startswith("|")]
        pairs = dict(word.partition("=")[::2] for word in words if not word.startswith("|"))
        if set(pairs) != set(_WORDS) or len(words) - len(cells) != len(_WORDS) or len(cells) > 1:
            raise ArchitectureError(
                f"an architecture must be written as {self.describe(self._example)!r}, got {text!r}."
            )
        genes = [0] * len(self.gene_names)
        for name, gene in _WORDS.items():
            known = self.allele_names(gene)
            if pairs[name] not in known:
                raise ArchitectureError(f"{name} must be one of {', '.join(known)}, got {pairs[name]!r}.")
            genes[gene] = known.index(pairs[name])
        if bool(genes[CELLS]) != bool(cells):
            raise ArchitectureError(
                f"cells={genes[CELLS]} needs {'a' if genes[CELLS] else 'no'} cell as |...|+|...|+|...|, got {text!r}."
            )
        if cells:
            operations = parse_cell(cells[0], EDGES, ALLELES, N_NODES)
            genes[CELL:CELLS] = [ALLELES.index(operation) for operation in operations]
        return tuple(genes)

    @property
    def _example(self) -> Genotype:
        return (0,) * len(self.gene_names)

    # --- networks

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return a network with the children `backbone`, `projection`, `cell1`, `cell2`, `head`, as far as it has them.

        Raises:
            ArchitectureError: if the cell is disconnected.
            SettingError: if the backbone has no such stage, or if its feature maps are too small.
        """
        genes = self.canonical(genotype)
        edges = live_edges(_operations(genes)) if genes[CELLS] else []
        from torch import nn  # torch takes seconds to load

        from nasx.networks.cell import Cell
        from nasx.networks.heads import head, projection

        backbone, channels = self._cut_backbone(self.cuts[genes[CUT]], input_shape)
        stages: OrderedDict[str, nn.Module] = OrderedDict(backbone=backbone)
        if width := self.projections[genes[PROJECTION]]:
            stages["projection"], channels = projection(channels, width), width
        for number in range(1, genes[CELLS] + 1):
            stages[f"cell{number}"] = Cell(edges, channels)
        stages["head"] = head(
            channels,
            n_classes,
            pooling=self.poolings[genes[POOLING]],
            kind=self.heads[genes[HEAD]],
            hidden=self.hidden,
            dropout=self.dropouts[genes[DROPOUT]],
        )
        return nn.Sequential(stages)

    def _cut_backbone(self, cut: str, input_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
        """Return the stages up to a cut, for images of a shape, and the channels of their feature maps."""
        from nasx.backbones.stages import check_cut, cut_stages  # torch takes seconds to load
        from nasx.networks.backbone import Backbone

        pretrained = self.pretrained()
        if unknown := [name for name in self.cuts if name not in pretrained.stage_names]:
            hint = did_you_mean(unknown[0], pretrained.stage_names)
            raise SettingError("space.cuts", f"must be stages of {self.backbone}, got {unknown[0]!r}. {hint}")
        channels, _, _ = check_cut(pretrained, cut, input_shape)
        stages = cut_stages(pretrained, cut, input_shape[0])
        return Backbone(copy.deepcopy(stages), digest=pretrained.digest), channels


_WORDS: Final = {
    "cut": CUT,
    "projection": PROJECTION,
    "cells": CELLS,
    "pooling": POOLING,
    "head": HEAD,
    "dropout": DROPOUT,
}


def _operations(genotype: Genotype) -> Operations:
    return tuple(ALLELES[allele] for allele in genotype[CELL:CELLS])
