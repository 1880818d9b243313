"""The skeleton of the paper's published TensorFlow code, where it differs from NAS-Bench-201's.

- The residual block is convolution, batch norm, ReLU, convolution, batch norm; a ReLU follows its sum. (NAS-Bench-201:
  a ReLU before each convolution, none after the sum.)
- The shortcut's 1x1 convolution has a bias. So have the others, but batch norm takes it away again: those are left out.
- Global average pooling follows the last cell at once, without batch norm and ReLU.
- Strided convolutions pad as TensorFlow's "same" does: an even side at the lower right alone.
- What Keras sets where nothing is said: batch norm's epsilon 1e-3 and momentum, uniform initialisation by Glorot and
  Bengio (AISTATS 2010), biases of 0.

Source: Lawrence Livermore National Laboratory's XNAS, `search_space_common.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from nasx.networks.cell import Cell
from nasx.networks.edge import Edge
from nasx.networks.skeleton import classifier, stem

EPSILON: Final = 1e-3


class SameConv(nn.Conv2d):
    """A 3x3 convolution of stride 2 that pads as TensorFlow does: (n, c, h, w) -> (n, c_out, ceil(h/2), ceil(w/2))."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # what ceil(side / 2) windows of 3 lack: 1 pixel on an even side, 2 on an odd one; a single one comes last
        height, width = (1 + side % 2 for side in x.shape[2:])
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


class XNASReductionBlock(nn.Module):
    """The residual block between stages: (n, c_in, h, w) -> (n, c_out, ceil(h / 2), ceil(w / 2))."""

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
    """The network of one cell repeated: children `stem`, `stage1`, `stage2`, `stage3`, `head`.

    `norm_momentum` is the share of a batch in the running statistics of batch norm (1 minus what Keras calls so).
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
            module.eps, module.momentum = EPSILON, norm_momentum
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
