"""Device of a trial: its name, and the latency of a network on it."""

from __future__ import annotations

import copy
import statistics
import time
from typing import Final

import torch
from torch import nn

from nasx import machine
from nasx.introspection.layers import evaluation_mode

WARM_UP: Final = 5  # passes before the measurement: they load kernels and fill caches
PASSES: Final = 50  # measured at most
LEAST_PASSES: Final = 5
SECONDS: Final = 0.3  # after which no further pass is measured


def device_name(device: torch.device) -> str:
    """Return the name of a processor or GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor()


def describe_device(device: torch.device, threads: int) -> str:
    """Return the name of a device, with the number of torch's threads if it is a processor; without a semicolon."""
    name = device_name(device).replace(";", ",")
    return name if device.type == "cuda" else f"{name}, {threads} thread{'s' * (threads > 1)}"


def measure_latency(network: nn.Module, shape: tuple[int, int, int], device: torch.device) -> float:
    """Return the median time of a forward pass of one image in float32, in milliseconds.

    It depends on the machine and on what else runs on it. The network is not changed.

    Args:
        network: trained or not: the time does not depend on the weights.
        shape: (channels, height, width) of an image.
        device: on which to measure, with the current number of torch's threads.
    """
    copied = copy.deepcopy(network).to(device=device, dtype=torch.float32)
    copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    image = torch.zeros(1, *shape, device=device)
    times: list[float] = []
    with evaluation_mode(copied), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for _ in range(WARM_UP):
            copied(image)
        begun = time.perf_counter()
        while len(times) < LEAST_PASSES or (len(times) < PASSES and time.perf_counter() - begun < SECONDS):
            _wait(device)
            started = time.perf_counter()
            copied(image)
            _wait(device)
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
