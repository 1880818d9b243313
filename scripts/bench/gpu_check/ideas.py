"""Measurements of possible speedups of a training step: kernels, layouts, batch norms, several steps at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.networks.training_form import training_form
from scripts.bench.candidate import network_of
from scripts.bench.gpu_check.candidates import BIG
from scripts.bench.gpu_check.checking import DEVICE, IS_CUDA, check, cuda_check

WARM_UP = 3
STEPS = 30 if IS_CUDA else 2
TOP = 6  # kinds of kernels reported


class Step:
    """Training step of the median cell on a batch in memory, as nasx trains it."""

    def __init__(
        self, *, layout: torch.memory_format = torch.channels_last, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.network = training_form(network_of(BIG, "median")).to(DEVICE).to(memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
        n = BIG.recipe.batch_size
        self.images = torch.randn(n, *BIG.shape, device=DEVICE).contiguous(memory_format=layout)
        self.labels = torch.arange(n, device=DEVICE) % 10
        self.dtype = dtype

    def __call__(self) -> None:
        with torch.autocast(DEVICE.type, self.dtype, cache_enabled=False):
            loss = F.cross_entropy(self.network(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()


def captured(step: Callable[[], None], stream: torch.cuda.Stream | None) -> Callable[[], Any]:
    """Return the step as a CUDA graph; on a CPU, the step itself after a warm-up."""
    if not IS_CUDA or stream is None:
        step()
        return step
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def replay(_kept: Callable[[], None] = step) -> None:  # the graph uses the step's memory: do not free it
        graph.replay()

    return replay


def stream_or_none() -> torch.cuda.Stream | None:
    return torch.cuda.Stream() if IS_CUDA else None  # type: ignore[no-untyped-call]


def milliseconds(run: Callable[[], Any], times: int = STEPS) -> float:
    """Return the mean milliseconds per call, including the device's work."""

    def wait() -> None:
        if IS_CUDA:
            torch.cuda.synchronize()

    run()
    wait()
    started = time.perf_counter()
    for _ in range(times):
        run()
    wait()
    return 1000 * (time.perf_counter() - started) / times


def graphed_milliseconds(**settings: Any) -> str:
    return f"{milliseconds(captured(Step(**settings), stream_or_none())):.2f} ms per step"


@check
def baseline() -> str:
    return graphed_milliseconds()


@check
def contiguous_layout() -> str:
    return graphed_milliseconds(layout=torch.contiguous_format)


@cuda_check
def float16_with_cudnn_batch_norm() -> str:
    return graphed_milliseconds(dtype=torch.float16)


@cuda_check
def kernels() -> str:
    """Report the device's time by kind of kernel, and the part of the step in which the device is busy."""
    replay = captured(Step(), stream_or_none())
    total = milliseconds(replay)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        milliseconds(replay, 5)
    times: Counter[str] = Counter()
    for event in profile.key_averages():
        times[_kind(event.key)] += event.self_device_time_total / 6 / 1000  # one more call warms up
    busy = sum(times.values())
    shares = ", ".join(f"{name} {ms / busy:.0%}" for name, ms in times.most_common(TOP))
    return f"busy {busy:.1f} of {total:.1f} ms: {shares}"


def _kind(kernel: str) -> str:
    kinds = ("batch_norm", "conv", "gemm", "pool", "copy", "elementwise", "reduce", "foreach")
    name = kernel.lower()
    return next((kind for kind in kinds if kind in name), "convolution" if "cudnn" in name else "other")


@cuda_check
def batch_norm_compiled() -> str:
    """Measure batch norm compiled by `torch.compile`, once for all shapes of a process."""
    step = Step()
    norm = torch.compile(F.batch_norm, dynamic=False)

    def forward(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
        return norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps)

    before = nn.BatchNorm2d.forward
    nn.BatchNorm2d.forward = forward  # type: ignore[method-assign]
    try:
        started = time.perf_counter()
        step()
        torch.cuda.synchronize()
        compiling = time.perf_counter() - started
        return f"{milliseconds(captured(step, stream_or_none())):.2f} ms per step, {compiling:.0f} s to compile"
    finally:
        nn.BatchNorm2d.forward = before  # type: ignore[method-assign]


@check
def several_on_streams() -> str:
    """Measure several candidates in one process, each a whole-step graph on its own stream."""
    found = []
    for n in (1, 2, 4, 8) if IS_CUDA else (1, 2):
        streams = [stream_or_none() for _ in range(n)]
        replays = [captured(Step(), stream) for stream in streams]

        def all_of_them(replays: list[Callable[[], Any]] = replays, streams: list[Any] = streams) -> None:
            for replay, stream in zip(replays, streams, strict=True):
                with torch.cuda.stream(stream) if IS_CUDA else nullcontext():
                    replay()

        found.append(f"{n}: {milliseconds(all_of_them) / n:.2f}")
        del replays, streams
    return f"candidates: ms per step of one: {', '.join(found)}"
