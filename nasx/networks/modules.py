"""A user's own operations as torch modules, tried out before a search begins."""

from __future__ import annotations

import torch
from torch import nn

_SIDES = (7, 4)  # pixels, odd and even, of the maps on which an operation is tried


def problem_of(operation: nn.Module, channels: int) -> str | None:
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
