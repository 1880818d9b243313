"""CUDA graphs: a GPU launches a captured step as a whole instead of kernel by kernel.

A training step of a small network has more than 1,000 short kernels, which take longer to launch than to compute. A
capture takes as long as a few steps; a compiler takes seconds to minutes per network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from nasx.errors import first_line, is_out_of_memory

Step = Callable[[Tensor, Tensor], None]  # images (n, channels, h, w), labels (n,)

WARM_UP = 3  # eager steps before the capture: they initialize libraries and allocate tensors that outlive the step
MIN_GRAPHED_STEPS = 30  # minimum number of steps with full batches for which a capture pays


class GraphedStep:
    """Runs a step eagerly WARM_UP times, then captures it and replays the graph.

    The step must change tensors that outlive it in place, and must not wait for the device. The capture itself computes
    nothing: every call is computed exactly once. Batches with another shape than the first run eagerly.

    If the step cannot be captured, all batches run eagerly, and `failure` is the reason.
    """

    def __init__(self, step: Step, undo: Callable[[], None] = lambda: None) -> None:
        """`undo` removes the remains of a failed capture, such as gradients."""
        self.failure: str | None = None
        self._step = step
        self._undo = undo
        self._calls = 0
        self._inputs: tuple[Tensor, Tensor] | None = None  # that the graph reads
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def is_captured(self) -> bool:
        """Return whether later calls replay a graph."""
        return self._graph is not None

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if self._inputs is None:
            self._inputs = torch.empty_like(images), torch.empty_like(labels)
        if self.failure is not None or images.shape != self._inputs[0].shape:
            self._step(images, labels)
            return
        self._calls += 1
        if self._calls <= WARM_UP:
            self._warm_up(images, labels)
            return
        for static, given in zip(self._inputs, (images, labels), strict=True):
            static.copy_(given)
        if self._graph is None:
            self._graph = self._capture(self._inputs)
        if self._graph is None:
            self._step(images, labels)
        else:
            self._graph.replay()

    def _warm_up(self, images: Tensor, labels: Tensor) -> None:
        """Run a step on another stream than the default, as torch requires before a capture."""
        stream = _stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._step(images, labels)
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self, inputs: tuple[Tensor, Tensor]) -> torch.cuda.CUDAGraph | None:
        """Return the captured step; None if it cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: other threads, such as Ray's, may call CUDA during the capture
            with torch.cuda.graph(graph, stream=_stream(), capture_error_mode="thread_local"):
                self._step(*inputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.failure = first_line(error)
            self._undo()
            torch.cuda.synchronize()  # raises if the device is broken
            return None
        return graph


@cache
def _stream() -> torch.cuda.Stream:
    """Return the stream of all captures: cuBLAS keeps about 100 MiB for each stream that it has run on."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
