"""Roofline: minimum time of a training step from its FLOPs and its memory traffic.

Every operation takes at least its FLOPs divided by the machine's measured matrix rate, and at least the bytes of its
inputs and outputs divided by the measured bandwidth of a copy; a step takes at least the sum over its operations. Fused
operations, or data that stays in a cache, can be faster: the share is a guide, not a strict limit.
Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from scripts.bench.machine import copy_bandwidth, matmul_rate


@dataclass(frozen=True)
class Limits:
    """Peak rates of a machine."""

    flops: Mapping[torch.dtype, float]  # FLOP/s by data type
    bandwidth: float  # bytes/s

    @classmethod
    def measured(cls, device: torch.device) -> Limits:
        """Measure the rates of a device.

        Copies on the CPU have 4 MiB, like the maps of one layer and batch: they stay in the last cache and are faster.
        """
        size, mebibytes = (8192, 1024) if device.type == "cuda" else (1024, 4)
        rates = {dtype: matmul_rate(dtype, device, size) for dtype in (torch.float32, torch.bfloat16)}
        return cls(rates, copy_bandwidth(device, mebibytes))

    def describe(self) -> str:
        products = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in self.flops.items())
        return f"matrix products {products}; copies {self.bandwidth / 1e9:.1f} GB/s"


@dataclass
class Work:
    """Total of several operations."""

    flops: int = 0
    bytes: int = 0
    seconds: float = 0.0  # minimum time

    def add(self, flops: int, moved: int, rate: float, bandwidth: float) -> None:
        """Add one operation.

        Args:
            flops: floating-point operations.
            moved: bytes read and written.
            rate: FLOP/s of the machine.
            bandwidth: bytes/s of the machine.

        >>> work = Work()
        >>> work.add(flops=100, moved=10, rate=50, bandwidth=10)
        >>> work.add(flops=0, moved=10, rate=50, bandwidth=10)
        >>> work
        Work(flops=100, bytes=20, seconds=3.0)
        """
        self.flops += flops
        self.bytes += moved
        self.seconds += max(flops / rate, moved / bandwidth)


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that run in its `with` block."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limits = limits
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        if func.is_view or not tensors:
            return out
        count = flop_registry.get(func._overloadpacket)
        flops = int(count(*args, **kwargs, out_val=out)) if count else 0
        rate = self.limits.flops.get(tensors[0].dtype, self.limits.flops[torch.float32])
        self.work.add(flops, sum(t.nbytes for t in tensors), rate, self.limits.bandwidth)
        return out


def training_step(network: nn.Module, images: Tensor, labels: Tensor, *, bfloat16: bool, limits: Limits) -> Work:
    """Return the work of one step: forward, backward, and SGD with momentum on every weight.

    Args:
        network: trained in place.
        images: one batch, (n, channels, height, width).
        labels: (n,).
        bfloat16: whether to use mixed precision.
        limits: peak rates of the machine.
    """
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    step()  # creates the buffers of the optimizer
    counter = Counter(limits)
    with counter:
        step()
    return counter.work
