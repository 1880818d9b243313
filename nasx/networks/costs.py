"""Costs of a network: parameters and multiply-accumulates (MACs), counted from its modules."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, with those of a frozen backbone."""
    return sum(p.numel() for p in network.parameters())


def count_macs(network: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Return the MACs of convolutions and matrix products for one image of (channels, height, width)."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, *input_shape, device=device))
    network.train(was_training)
    return int(counter.get_total_flops()) // 2  # one MAC is two FLOPs
