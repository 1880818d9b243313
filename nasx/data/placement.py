"""Decides which images stay in the memory of a GPU, and uploads them once per process."""

from __future__ import annotations

import math
import warnings
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasx.data.images import LabelledImages

DATA_SHARE: Final = 0.25  # of a trial's share of the GPU memory, for datasets; the rest is for training

# by images and device; images of trials that share a worker are the same object
_placed: WeakKeyDictionary[LabelledImages, dict[torch.device, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def place(images: LabelledImages, device: torch.device, gpu_share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return images, uint8 (n, channels, height, width), and labels, int64 (n,), as tensors to be read, never written.

    On the CPU both share the memory of the arrays. On a GPU the labels are on the device; the images too, if all images
    placed so far take at most `DATA_SHARE` of this process's part of its memory. Others stay on the host. They are
    uploaded once, and stay as long as `images` exists.

    Args:
        images: in memory, or mapped from a file, which always stay on the host.
        device: of the networks that see the images.
        gpu_share: of the GPU's memory, in (0, 1], that this process may use.
    """
    host = as_tensor(images.images), as_tensor(images.labels)
    if device.type == "cpu":
        return host
    placed = _placed.setdefault(images, {})
    if device not in placed:
        stays = not images.on_disk and _bytes_on(device) + host[0].nbytes <= DATA_SHARE * gpu_share * _memory(device)
        placed[device] = host[0].to(device) if stays else host[0], host[1].to(device)
    return placed[device]


def _bytes_on(device: torch.device) -> int:
    """Bytes of all images that are on the device."""
    pairs = (placed[device] for placed in _placed.values() if device in placed)
    return sum(images.nbytes for images, _ in pairs if images.device.type == device.type)


def _memory(device: torch.device) -> float:
    """Bytes of memory of a device."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else math.inf


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """Return the array's memory as a tensor, without a copy: to be read, never written."""
    with warnings.catch_warnings():
        # arrays from Ray's object store and from files are read-only, which torch cannot express
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
