"""The skeleton of NAS-Bench-201: what surrounds the cells.

Stem (3x3 convolution and batch norm), three stages of equal cells with C, 2C and 4C channels, a residual block that
halves the resolution before the second and the third, and a head that pools and classifies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from nasx.networks.cell import Cell
from nasx.networks.edge import Edge
from nasx.networks.operations import ReLUConvBN

N_STAGES = 3


class ReductionBlock(nn.Module):
    """The residual block between stages: (n, c_in, h, w) -> (n, c_out, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(ReLUConvBN(c_in, c_out, 3, stride=2), ReLUConvBN(c_out, c_out, 3))
        # ceil: an odd side halves as the strided convolution halves it
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.main(x) + self.shortcut(x)
        return residual


def cell_network(
    edges: Sequence[Edge], *, channels: int, cells: int, input_channels: int, n_classes: int
) -> nn.Sequential:
    """The network of one cell repeated: children `stem`, `stage1`, `stage2`, `stage3`, `head`.

    Images (n, input_channels, h, w) become logits (n, n_classes).
    """
    widths = [channels * 2**stage for stage in range(N_STAGES)]
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(
        nn.Conv2d(input_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
    )
    for stage, width in enumerate(widths):
        reduction = [] if stage == 0 else [ReductionBlock(widths[stage - 1], width)]
        stages[f"stage{stage + 1}"] = nn.Sequential(*reduction, *(Cell(edges, width) for _ in range(cells)))
    stages["head"] = nn.Sequential(
        nn.BatchNorm2d(widths[-1]),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], n_classes),
    )
    return nn.Sequential(stages)
