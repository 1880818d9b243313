"""Small networks and images for tests, drawn from a seed."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

N_CLASSES = 4


def seeded(seed: int, *shape: int) -> Tensor:
    """Return normal numbers that depend only on the seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_seeded_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network in evaluation mode, its parameters and batch norm statistics drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(parameter[0].numel(), 1) ** 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network.eval()


def conv_block(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


def staged_network(seed: int = 0, channels: int = 4) -> nn.Sequential:
    """Return a network (n, 3, 8, 8) -> (n, N_CLASSES) with the stages of networks of NAS-Bench-201."""
    stages = OrderedDict(
        stem=conv_block(3, channels),
        stage1=conv_block(channels, channels),
        stage2=conv_block(channels, 2 * channels, stride=2),
        stage3=conv_block(2 * channels, 4 * channels, stride=2),
        head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * channels, N_CLASSES)),
    )
    network = nn.Sequential(stages)
    with_seeded_weights(network, seed)
    return network


def labeled(n: int = 40, seed: int = 0, size: int = 8) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, size, size) whose classes differ in their mean, and labels (n,)."""
    labels = torch.arange(n) % N_CLASSES
    return seeded(seed, n, 3, size, size) + seeded(seed + 1, N_CLASSES, 3, 1, 1)[labels], labels
