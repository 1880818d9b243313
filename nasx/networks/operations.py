"""The operations on a cell's edges, as NAS-Bench-201 defines them.

None works in place and none is used twice in a network: attribution methods that hook modules rely on it.
Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from torch import nn

from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, SKIP


class ReLUConvBN(nn.Sequential):
    """ReLU, then a convolution without bias, then batch norm: (n, c_in, h, w) -> (n, c_out, h / stride, w / stride)."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> None:
        conv = nn.Conv2d(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


# what a live edge computes, by name; each entry makes a module for a number of channels that it keeps
Operations: TypeAlias = Mapping[str, Callable[[int], nn.Module]]

OPERATIONS: Final[Operations] = {
    SKIP: lambda channels: nn.Identity(),
    CONV_1X1: lambda channels: ReLUConvBN(channels, channels, 1),
    CONV_3X3: lambda channels: ReLUConvBN(channels, channels, 3),
    AVG_POOL: lambda channels: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
}
