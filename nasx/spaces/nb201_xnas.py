"""NAS-Bench-201's cells as the paper's published TensorFlow code has them: for comparing with its figures.

The cells are the same; the skeleton around them differs (see `nasx.networks.xnas_skeleton`), and so does the order of
the alleles, which matters to the paper's integer crossover and mutation: neighbours are taken for alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasx.errors import SettingError
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, NONE, SKIP
from nasx.spaces.nb201 import NASBench201, live_edges
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn


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
        from nasx.networks.xnas_skeleton import xnas_network  # here: who only reads genotypes need not load torch

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
