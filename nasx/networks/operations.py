"""Operations on the edges of a cell: those of NAS-Bench-201, and a check of operations that a user defines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch
from torch import nn

from nasx.errors import first_line
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, SKIP


class ReLUConvBN(nn.Sequential):
    """ReLU, then a convolution without bias, then batch norm: (n, c_in, h, w) -> (n, c_out, h / stride, w / stride)."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> None:
        conv = nn.Conv2d(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


# by name: constructor of a module that maps a number of channels to the same number
Operations: TypeAlias = Mapping[str, Callable[[int], nn.Module]]
OPERATIONS: Final[Operations] = {
    SKIP: lambda channels: nn.Identity(),
    CONV_1X1: lambda channels: ReLUConvBN(channels, channels, 1),
    CONV_3X3: lambda channels: ReLUConvBN(channels, channels, 3),
    AVG_POOL: lambda channels: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
}
_SIDES = (7, 4)  # pixels per side, odd and even, of the feature maps that test an operation


def operation_problem(operation: nn.Module, channels: int) -> str | None:
    """Return why `operation` cannot be used on an edge of a cell; None if it can.

    It must map (n, channels, h, w) to the same shape, leave its input unchanged, and pass gradients.
    """
    if inplace := [type(m).__name__ for m in operation.modules() if getattr(m, "inplace", False)]:
        return f"works in place ({inplace[0]}), which breaks attributions: set inplace: false"
    for side in _SIDES:
        maps = torch.linspace(-1, 1, 2 * channels * side * side).view(2, channels, side, side).requires_grad_()
        before = maps.detach().clone()
        try:
            output = operation(maps)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
            return f"fails for {channels} channels of {side} x {side} pixels: {first_line(error)}"
        if not isinstance(output, torch.Tensor) or output.shape != maps.shape:
            got = tuple(output.shape) if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
            return f"must keep the shape of its input, {tuple(maps.shape)}, got {got}"
        if not torch.equal(maps.detach(), before):
            return "must not change its input, which other edges use too"
        if not output.requires_grad:
            return "passes no gradient to its input"
    return None
