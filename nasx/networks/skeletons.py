"""Skeletons around the cells: those of NAS-Bench-201 and of the paper's published TensorFlow code."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from nasx.networks.cell import Cell
from nasx.networks.edge import Edge
from nasx.networks.operations import OPERATIONS, Operations, ReLUConvBN

N_STAGES: Final = 3
STEM_SIDE: Final = 32  # pixels: maximum side of the feature maps after the stem


class ReductionBlock(nn.Module):
    """Residual block between stages: (n, c_in, h, w) -> (n, c_out, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(ReLUConvBN(c_in, c_out, 3, stride=2), ReLUConvBN(c_out, c_out, 3))
        # ceil_mode: odd sides are rounded up, as by the strided convolution
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.main(x) + self.shortcut(x)
        return residual


def cell_network(
    edges: Sequence[Edge],
    *,
    widths: Sequence[int],
    cells: int,
    input_shape: tuple[int, int, int],
    n_classes: int,
    operations: Operations = OPERATIONS,
) -> nn.Sequential:
    """Return a network of one repeated cell: (n, *input_shape) -> (n, n_classes).

    Its children are `stem`, `stage1`, `stage2`, ..., `head`.

    Args:
        edges: live edges of the cell.
        widths: channels of each stage.
        cells: cells per stage.
        input_shape: (channels, height, width) of the images.
        n_classes: number of logits.
        operations: constructor of each operation, by name.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = stem(input_shape, widths[0])
    for stage, width in enumerate(widths):
        reduction = [] if stage == 0 else [ReductionBlock(widths[stage - 1], width)]
        stages[f"stage{stage + 1}"] = nn.Sequential(*reduction, *(Cell(edges, width, operations) for _ in range(cells)))
    stages["head"] = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(), *classifier(widths[-1], n_classes))
    return nn.Sequential(stages)


def stem_halvings(height: int, width: int) -> int:
    """Return how often the stem halves the resolution of an image.

    >>> [stem_halvings(side, side) for side in (8, 28, 32, 33, 64, 224)]
    [0, 0, 0, 1, 1, 3]
    """
    side, halvings = max(height, width), 0
    while side > STEM_SIDE:
        side, halvings = -(-side // 2), halvings + 1
    return halvings


def stem(input_shape: tuple[int, int, int], channels: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm; for large images, as many of stride 2 as `stem_halvings`."""
    input_channels, height, width = input_shape
    halvings = stem_halvings(height, width)
    first = nn.Conv2d(input_channels, channels, 3, stride=2 if halvings else 1, padding=1, bias=False)
    more = (ReLUConvBN(channels, channels, 3, stride=2) for _ in range(halvings - 1))
    return nn.Sequential(first, nn.BatchNorm2d(channels), *more)


def classifier(channels: int, n_classes: int) -> list[nn.Module]:
    """Return the last modules of every head: (n, channels, h, w) -> (n, n_classes)."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes)]


KERAS_EPSILON: Final = 1e-3  # of batch norm


class SameConv(nn.Conv2d):
    """3x3 convolution of stride 2 with TensorFlow's SAME padding: (n, c, h, w) -> (n, c_out, ceil(h/2), ceil(w/2))."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # ceil(side / 2) windows of 3 need 1 pixel on an even side, 2 on an odd one; a single one is added at the end
        height, width = (1 + side % 2 for side in x.shape[2:])
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


class XNASReductionBlock(nn.Module):
    """Residual block between stages: (n, c_in, h, w) -> (n, c_out, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            SameConv(c_in, c_out),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(c_in, c_out, 1),
        )
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.main(x) + self.shortcut(x))
        return activated


def xnas_network(
    edges: Sequence[Edge],
    *,
    widths: Sequence[int],
    cells: int,
    norm_momentum: float,
    input_shape: tuple[int, int, int],
    n_classes: int,
) -> nn.Sequential:
    """Return a network of one repeated cell as in the paper's published code: (n, *input_shape) -> (n, n_classes).

    Its children are `stem`, `stage1`, `stage2`, `stage3`, `head`.

    Args:
        edges: live edges of the cell.
        widths: channels of each stage.
        cells: cells per stage.
        norm_momentum: share of each batch in the running statistics of batch norm; Keras's momentum is 1 minus this.
        input_shape: (channels, height, width) of the images.
        n_classes: number of logits.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = stem(input_shape, widths[0])
    for stage, width in enumerate(widths):
        reduction = [] if stage == 0 else [XNASReductionBlock(widths[stage - 1], width)]
        stages[f"stage{stage + 1}"] = nn.Sequential(*reduction, *(Cell(edges, width) for _ in range(cells)))
    stages["head"] = nn.Sequential(*classifier(widths[-1], n_classes))
    network = nn.Sequential(stages)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = KERAS_EPSILON, norm_momentum
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
