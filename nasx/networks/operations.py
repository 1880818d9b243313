"""Operations on the edges of a cell: NAS-Bench-201's, and a check of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch
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
_SIDES = (7, 4)  # pixels, odd and even, of the maps on which an operation is tried


def operation_problem(operation: nn.Module, channels: int) -> str | None:
    """What keeps `operation` from standing on an edge of a cell, in words; None where nothing does.

    It must map (n, channels, h, w) to the same shape, in whole batches, leave its input as it is, and let gradients
    through.
    """
    if inplace := [type(m).__name__ for m in operation.modules() if getattr(m, "inplace", False)]:
        return f"works in place ({inplace[0]}), which breaks attributions: give it inplace: false"
    for side in _SIDES:
        maps = torch.linspace(-1, 1, 2 * channels * side * side).view(2, channels, side, side).requires_grad_()
        before = maps.detach().clone()
        try:
            output = operation(maps)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
            return f"cannot take {channels} channels of {side} x {side} pixels: {_first_line(error)}"
        if not isinstance(output, torch.Tensor) or output.shape != maps.shape:
            got = f"the shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
            return f"must keep the shape of what it is given, {tuple(maps.shape)}, got {got}"
        if not torch.equal(maps.detach(), before):
            return "changes its input, which other edges read as well"
        if not output.requires_grad:
            return "lets no gradient through"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
