"""Model files of unknown origin: what they may contain, the memory and time that they may use, and their outputs.

A graph is data, but it can name other files as its weights, need 100 GB of memory, run for hours, or return NaN.
"""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasx import machine
from nasx.errors import DataError
from nasx.files import check_archive

MAX_BYTES = 2**31 - 1  # of a model file; protobuf, the format of ONNX, has no larger messages
MAX_SECONDS = 120.0  # for one batch
MEMORY_SHARE = 0.5  # of the memory of this process, for loading and for running a model
SUM_TOLERANCE = 1e-3  # of probabilities

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # probabilities (n, n_classes), confidence (n,)


def check_model_file(file: Path) -> None:
    """Raise DataError if a model file is not a regular file, or too large."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{file} is not a file.")
    if found.st_size > MAX_BYTES:
        raise DataError(f"{file} has {found.st_size:,} bytes: models may have at most {MAX_BYTES:,}.")


def checked_onnx(onnx: Any, content: bytes) -> bytes:
    """Return an ONNX model that contains everything it needs: standard operations and its own weights.

    Args:
        onnx: the package.
        content: of the file.

    Raises:
        ValueError: if the model names other files, or contains custom operations, functions, loops or branches. nasx
            exports none of these.
    """
    model = onnx.ModelProto.FromString(content)
    if model.functions or model.training_info:
        raise ValueError("it defines functions or a training, which exports of nasx do not have")
    for message in _messages(model):
        kind = type(message).__name__
        if kind == "TensorProto" and (message.external_data or message.data_location):
            raise ValueError("it reads its weights from another file, which is not allowed: store them in the model")
        if kind == "NodeProto" and message.domain not in ("", "ai.onnx"):
            raise ValueError(f"it has an operation of the domain {message.domain!r}, not of ONNX itself")
        if kind == "NodeProto" and any(each.HasField("g") or each.graphs for each in message.attribute):
            raise ValueError(f"it has a loop or a branch ({message.op_type}), which exports of nasx do not have")
    model.DiscardUnknownFields()  # onnxruntime may know fields that this check does not
    checked: bytes = model.SerializeToString()
    return checked


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all messages in it."""
    waiting = [message]
    while waiting:
        found = waiting.pop()
        yield found
        for field, value in found.ListFields():
            if field.message_type is not None:
                waiting.extend(value if hasattr(value, "__len__") else [value])


def check_program(file: Path) -> None:
    """Raise ValueError for a .pt2 archive that contains pickled objects, compiled code, or more than it shows."""
    for name in check_archive(file):
        if name.endswith((".so", ".pkl", ".py")) or "custom_obj" in name:
            raise ValueError(f"it contains {name}, which exports of nasx do not have")


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process take at most a share of the machine's memory within the block, on Linux.

    A larger request fails with an exception. Elsewhere the operating system decides.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + max(int(MEMORY_SHARE * machine.memory().amount), 2**30)
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def stopped_after(seconds: float, stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in another thread if the block takes longer."""
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def checked_outputs(outputs: Any, n_images: int, n_classes: int) -> Outputs:
    """Return the outputs of a model, probabilities and confidence.

    Raises ValueError if they are not two arrays of the right shape, or not probabilities.

    >>> checked_outputs((np.full((1, 2), np.nan), np.ones(1)), 1, 2)
    Traceback (most recent call last):
    ValueError: its probabilities are not numbers from 0 to 1
    """
    if len(outputs) != 2 or not all(isinstance(each, np.ndarray) and each.dtype.kind == "f" for each in outputs):
        raise ValueError("its outputs are not probabilities and confidence, two arrays of floating-point numbers")
    probabilities, confidence = outputs
    expected, received = ((n_images, n_classes), (n_images,)), (probabilities.shape, confidence.shape)
    if received != expected:
        raise ValueError(f"outputs of shape {received}, expected {expected}")
    for name, values in (("probabilities", probabilities), ("confidence", confidence)):
        if not ((values >= -SUM_TOLERANCE) & (values <= 1 + SUM_TOLERANCE)).all():  # false for NaN
            raise ValueError(f"its {name} are not numbers from 0 to 1")
    if not (abs(probabilities.sum(axis=1) - 1) <= SUM_TOLERANCE).all():
        raise ValueError("its probabilities do not sum to 1")
    return probabilities.clip(0, 1), confidence.clip(0, 1)


def check_normalization(rebuild: Mapping[str, Any], n_channels: int) -> None:
    """Raise ValueError unless mean and standard deviation are a finite number per channel, the latter positive."""
    for name in ("mean", "std"):
        values = np.asarray(rebuild[name], dtype=np.float64)
        if values.shape != (n_channels,) or not np.isfinite(values).all() or (name == "std" and (values <= 0).any()):
            raise ValueError(f"its {name} is not {n_channels} finite number{'s' * (n_channels > 1)}")
