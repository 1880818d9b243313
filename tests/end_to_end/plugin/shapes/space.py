"""Search space of plain convolutional networks of several depths and widths."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

from nasx.errors import ArchitectureError
from nasx.trial import Genotype

DEPTHS = (1, 2, 3)  # number of convolutions


class Towers:
    """Plain convolutional networks: one gene for the depth, one for the width."""

    name = "towers"
    gene_names = ("depth", "width")

    def __init__(self, *, widths: tuple[int, ...] = (2, 4)) -> None:
        self.widths = widths
        self.gene_sizes = (len(DEPTHS), len(widths))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the settings that shape the network."""
        return {"widths": list(self.widths)}

    def allele_names(self, gene: int) -> tuple[str, ...]:
        """Return the depths or widths in words."""
        return tuple(map(str, DEPTHS if gene == 0 else self.widths))

    def canonical(self, genotype: Genotype) -> Genotype:
        """Return the genotype: each is another network."""
        return genotype

    def is_connected(self, genotype: Genotype) -> bool:
        """Return True: every genotype is a network."""
        return True

    def describe(self, genotype: Genotype) -> str:
        """Return the string form, e.g. "2x4"."""
        return f"{DEPTHS[genotype[0]]}x{self.widths[genotype[1]]}"

    def parse(self, text: str) -> Genotype:
        """Return the genotype of a string form."""
        try:
            depth, width = map(int, text.split("x"))
            return DEPTHS.index(depth), self.widths.index(width)
        except ValueError as error:
            raise ArchitectureError(f"a tower must have the form DEPTHxWIDTH, e.g. 2x4, got {text!r}.") from error

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        """Return an untrained network."""
        depth, width = DEPTHS[genotype[0]], self.widths[genotype[1]]
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(depth):
            conv = nn.Conv2d(input_shape[0] if i == 0 else width, width, 3, padding=1, bias=False)
            stages[f"floor{i + 1}"] = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
        stages["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, n_classes))
        return nn.Sequential(stages)
