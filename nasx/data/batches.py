"""Batches from tensors that stay on the device: no worker processes, no work per image, no copies.

Images that do not fit into their share of a GPU are gathered on the host, one batch ahead.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasx.data.augmentation import Augmentation, augment
from nasx.data.dataset import LabeledImages
from nasx.errors import SettingError
from nasx.trial import derive_seed

DATA_SHARE: Final = 0.25  # of a trial's share of the GPU memory, for datasets; the rest is for training
# by images and device; images of trials that share a worker are the same object
_placed: WeakKeyDictionary[LabeledImages, dict[torch.device, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def place(images: LabeledImages, device: torch.device, gpu_share: float = 1.0) -> tuple[Tensor, Tensor]:
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


Batch = tuple[Tensor, Tensor]  # images (b, channels, height, width) float32 normalised; labels (b,) int64


def normalize(images: Tensor, mean: Tensor | NDArray[np.float32], std: Tensor | NDArray[np.float32]) -> Tensor:
    """uint8 `images` (n, channels, height, width) as float32, (image / 255 - mean) / std, channel by channel.

    >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), np.float32([0.5]), np.float32([0.25]))
    tensor([[[[-2.,  2.]]]])
    """
    mean = torch.as_tensor(mean, device=images.device).view(-1, 1, 1)
    std = torch.as_tensor(std, device=images.device).view(-1, 1, 1)
    return images.float().mul_(1 / (255 * std)).sub_(mean / std)


class Pixels:
    """Images, normalised as they are indexed: a dataset need not fit into a device's memory as float32.

    Indexed by a slice, a number or a tensor of indices like a tensor of shape (n, channels, height, width) that is on
    `device`.
    """

    dtype = torch.float32

    def __init__(
        self,
        images: LabeledImages,
        *,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        device: torch.device | str = "cpu",
        gpu_share: float = 1.0,
    ) -> None:
        """Place the images on the device, or leave them on the host; see `nasx.data.batches.place`.

        Args:
            images: n of them.
            mean: of each channel, pixels from 0 to 1, (channels,).
            std: likewise.
            device: of the networks that see the images.
            gpu_share: of the GPU's memory, in (0, 1], that this process may use.
        """
        self.device = torch.device(device)
        self.images, self.labels = place(images, self.device, gpu_share)  # labels (n,) int64, on the device
        self._mean, self._std = as_tensor(mean).to(device), as_tensor(std).to(device)
        self._rows: Tensor | None = None  # of `images`, which these are; None: all in their order

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.images.shape[1:])

    @property
    def is_streamed(self) -> bool:
        """Whether images come from the host each time they are needed."""
        return self.images.device.type != self.device.type

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        return self.finish(self.gather(index))

    def take(self, indices: Tensor) -> Pixels:
        """The images at `indices`, int64 (m,), in that order, with their labels; nothing is computed yet."""
        taken = copy.copy(self)
        rows = indices.to(self.images.device)
        taken._rows = rows if self._rows is None else self._rows[rows]
        taken.labels = self.labels[indices.to(self.labels.device)]
        return taken

    def gather(self, index: int | slice | Tensor) -> Tensor:
        """Images as they are stored, uint8; from the host in pinned memory if a GPU is to fetch them."""
        rows: int | slice | Tensor = index if self._rows is None else self._rows[index]
        if isinstance(rows, Tensor):
            # index_select: 15 times faster than images[indices] for uint8 images
            images = self.images.index_select(0, rows.reshape(-1).to(self.images.device))
            images = images if rows.dim() else images[0]
        else:
            images = self.images[rows]
        return images.pin_memory() if self.is_streamed and self.device.type == "cuda" else images

    def finish(self, gathered: Tensor) -> Tensor:
        """What `gather` returned, on the device and normalised."""
        return normalize(gathered.to(self.device, non_blocking=True), self._mean, self._std)


def take(images: Tensor | Pixels, indices: Tensor) -> Tensor | Pixels:
    """The images at `indices`, int64 (m,), in that order; of `Pixels` nothing is computed yet."""
    return images.take(indices) if isinstance(images, Pixels) else images[indices.to(images.device)]


def split_batches(images: Tensor | Pixels, size: int) -> Iterator[Tensor]:
    """Yield all images in their order, `size` at a time."""
    return (images[start : start + size] for start in range(0, len(images), size))


class EvaluationBatches:
    """All images in their own order, normalised, `batch_size` at a time. Iterate as often as you like."""

    def __init__(
        self,
        data: LabeledImages,
        *,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        batch_size: int,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
        gpu_share: float = 1.0,
    ) -> None:
        _check_batch_size(batch_size)
        self.pixels = Pixels(data, mean=mean, std=std, device=device, gpu_share=gpu_share)
        self.labels = self.pixels.labels
        self.batch_size = batch_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        slices = [slice(start, start + self.batch_size) for start in range(0, len(self.labels), self.batch_size)]
        for images, labels in zip(self._fetch(slices), torch.split(self.labels, self.batch_size), strict=True):
            yield self._finish(images), labels

    def _fetch(self, indices: Iterable[slice | Tensor]) -> Iterator[Tensor]:
        """Normalised images; those that are streamed are gathered by a thread, a batch ahead."""
        gathered = (self.pixels.gather(index) for index in indices)
        return map(self.pixels.finish, _one_ahead(gathered) if self.pixels.is_streamed else gathered)

    def _finish(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.memory_format)


class TrainingBatches(EvaluationBatches):
    """All images once an epoch in a new order, normalised and augmented: takes the place of a DataLoader.

    The images, their order and their augmentation in an epoch depend on (seed, epoch) alone. Every iteration
    is the next epoch, counted by `epoch`, which may be set to go on elsewhere.

    Nothing is dropped: the last batch is smaller, but a single image left over joins the batch before it, since batch
    normalisation cannot learn from one sample.
    """

    def __init__(
        self,
        data: LabeledImages,
        *,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
        gpu_share: float = 1.0,
    ) -> None:
        super().__init__(
            data, mean=mean, std=std, batch_size=batch_size, device=device, channels_last=channels_last,
            gpu_share=gpu_share,
        )  # fmt: skip
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0  # the epoch that the next iteration gives

    def __len__(self) -> int:
        return len(_batch_sizes(len(self.labels), self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        # counted at the first batch, not by iter(): Lightning makes an iterator ahead and throws it away
        epoch, self.epoch = self.epoch, self.epoch + 1
        seed = derive_seed(self.seed, epoch)
        # drawn on the host, so that the order is the same on every kind of device
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        device = self.pixels.device
        generator = torch.Generator(device).manual_seed(seed)
        sizes = _batch_sizes(len(self.labels), self.batch_size)
        there = order.to(device)  # at once: a copy for each batch would wait for the device
        images = self._fetch(torch.split(order if self.pixels.is_streamed else there, sizes))
        for chosen, indices in zip(images, torch.split(there, sizes), strict=True):
            yield self._finish(augment(chosen, self.augmentation, generator)), self.labels[indices]


def _one_ahead(items: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield the items; a thread computes the next one while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _batch_sizes(n: int, batch_size: int) -> list[int]:
    """Sizes that sum to n, none of them 1 unless n is.

    >>> _batch_sizes(10, 4), _batch_sizes(9, 4)
    ([4, 4, 2], [4, 5])
    """
    whole, rest = divmod(n, batch_size)
    sizes = [batch_size] * whole
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 2:
        raise SettingError("batch_size", f"must be at least 2 (batch normalisation), got {batch_size}")
