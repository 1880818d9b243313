"""Batches from tensors that stay on the device: no worker processes, no work per image, no copies.

Images that do not fit into their share of the GPU memory are gathered on the host, one batch ahead.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, SkipValidation
from torch import Tensor

from nasx.config.settings import checked
from nasx.data.augmentation import Augmentation, augment
from nasx.data.dataset import LabeledImages
from nasx.data.features import Features
from nasx.trial import derive_seed

DATA_SHARE: Final = 0.25  # of a trial's share of the GPU memory, for datasets; the rest is for training
# by images and device; trials that share a worker use the same LabeledImages object
_gathered: WeakKeyDictionary[Features, Features] = WeakKeyDictionary()
_placed: WeakKeyDictionary[LabeledImages, dict[torch.device, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def place(images: LabeledImages, device: torch.device, gpu_share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return images and labels as tensors on a device, for reading only. Of feature maps, all rows of the file.

    On the CPU both share the memory of the arrays. On a GPU the labels are on the device. The images are too, if all
    images placed so far take at most `DATA_SHARE` of this process's part of its memory; otherwise they stay on the
    host. They are uploaded once, and stay on the device as long as `images` exists.

    Args:
        images: in memory, or mapped from a file; mapped images always stay on the host.
        device: of the networks that use the images.
        gpu_share: share of the GPU memory, in (0, 1], that this process may use.

    Returns:
        images, uint8 (n, channels, height, width), or feature maps, float16 (rows, channels, height, width); and
        labels, int64 (n,).
    """
    host = as_tensor(images.images), as_tensor(images.labels)
    if device.type == "cpu":
        return host
    placed = _placed.setdefault(images, {})
    if device not in placed:
        stays = not images.on_disk and _bytes_on(device) + host[0].nbytes <= DATA_SHARE * gpu_share * _memory(device)
        placed[device] = host[0].to(device) if stays else host[0], host[1].to(device)
    return placed[device]


def in_memory(features: Features, device: torch.device, gpu_share: float = 1.0) -> Features:
    """Return the feature maps with their own rows only, in memory, if a GPU has room for them; else the same ones.

    Args:
        features: mapped from a file.
        device: of the networks that use them.
        gpu_share: share of the GPU memory, in (0, 1], that this process may use.
    """
    rows = features.rows
    n_bytes = rows.size * features.images[:1].nbytes
    if device.type == "cpu" or not features.on_disk or n_bytes > DATA_SHARE * gpu_share * _memory(device) / 2:
        return features
    if features not in _gathered:
        own = features.images[rows.ravel()]
        _gathered[features] = replace(
            features, images=own, on_disk=False, rows=np.arange(rows.size).reshape(rows.shape)
        )
    return _gathered[features]


def _bytes_on(device: torch.device) -> int:
    """Return the bytes of all images that are on the device."""
    pairs = (placed[device] for placed in _placed.values() if device in placed)
    return sum(images.nbytes for images, _ in pairs if images.device.type == device.type)


def _memory(device: torch.device) -> float:
    """Return the bytes of memory of a device; infinity for a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else math.inf


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """Return the array's memory as a tensor for reading, without a copy."""
    with warnings.catch_warnings():
        # arrays from Ray's object store and from files are read-only, which torch cannot express
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))


Batch = tuple[Tensor, Tensor]  # images (b, channels, height, width) float32, normalized; labels (b,) int64


def normalize(images: Tensor, mean: Tensor | NDArray[np.float32], std: Tensor | NDArray[np.float32]) -> Tensor:
    """Return (images / 255 - mean) / std as float32, channel by channel.

    Args:
        images: uint8 (n, channels, height, width).
        mean: (channels,) of pixels scaled to [0, 1].
        std: (channels,) of pixels scaled to [0, 1].

    >>> normalize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), np.float32([0.5]), np.float32([0.25]))
    tensor([[[[-2.,  2.]]]])
    """
    mean = torch.as_tensor(mean, device=images.device).view(-1, 1, 1)
    std = torch.as_tensor(std, device=images.device).view(-1, 1, 1)
    return images.float().mul_(1 / (255 * std)).sub_(mean / std)


class Pixels:
    """Images that are normalized when they are indexed, so that float32 copies need not fit into device memory.

    Indexed by a slice, an integer or a tensor of indices, like a tensor (n, channels, height, width) on `device`.
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
            images: n images with labels.
            mean: (channels,) of pixels scaled to [0, 1].
            std: (channels,) of pixels scaled to [0, 1].
            device: of the networks that use the images.
            gpu_share: share of the GPU memory, in (0, 1], that this process may use.
        """
        self.device = torch.device(device)
        if isinstance(images, Features):
            images = in_memory(images, self.device, gpu_share)
        self.images, self.labels = place(images, self.device, gpu_share)  # labels (n,) int64, on the device
        self._mean, self._std = as_tensor(mean).to(device), as_tensor(std).to(device)
        self._rows: Tensor | None = None  # indices into `images`; None: all images in their order
        self._views: Tensor | None = None  # (views * n,) indices of all views, those of the first one first
        if isinstance(images, Features):
            self._views = as_tensor(images.rows.reshape(-1)).to(self.images.device)
            self._rows = self._views[: len(images)]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.images.shape[1:])

    @property
    def is_streamed(self) -> bool:
        """True if images are copied from the host each time they are used."""
        return self.images.device.type != self.device.type

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        return self.finish(self.gather(index))

    def take(self, indices: Tensor) -> Pixels:
        """Return the images at `indices`, int64 (m,), with their labels, in that order; nothing is computed yet."""
        taken = copy.copy(self)
        rows = indices.to(self.images.device)
        taken._rows = rows if self._rows is None else self._rows[rows]
        taken.labels = self.labels[indices.to(self.labels.device)]
        return taken

    def all_views(self) -> Pixels:
        """Return all views as if they were images: image i of n in view v has the index v * n + i. For feature maps."""
        found = copy.copy(self)
        found._rows = self._views
        return found

    def gather(self, index: int | slice | Tensor) -> Tensor:
        """Return images as stored, uint8, or maps, float16; in pinned memory if copied from the host to a GPU."""
        if isinstance(index, Tensor):
            index = index.to(self.images.device)
        rows: int | slice | Tensor = index if self._rows is None else self._rows[index]
        if isinstance(rows, Tensor):
            # index_select: 15 times faster than images[indices] for uint8 images
            images = self.images.index_select(0, rows.reshape(-1))
            images = images if rows.dim() else images[0]
        else:
            images = self.images[rows]
        return images.pin_memory() if self.is_streamed and self.device.type == "cuda" else images

    def finish(self, gathered: Tensor) -> Tensor:
        """Return gathered images, normalized, on the device; feature maps as they are, in float32."""
        if gathered.is_floating_point():
            return gathered.to(self.device, non_blocking=True).float()
        return normalize(gathered.to(self.device, non_blocking=True), self._mean, self._std)


def take(images: Tensor | Pixels, indices: Tensor) -> Tensor | Pixels:
    """Return the images at `indices`, int64 (m,), in that order; for `Pixels` nothing is computed yet."""
    return images.take(indices) if isinstance(images, Pixels) else images[indices.to(images.device)]


def split_batches(images: Tensor | Pixels, size: int) -> Iterator[Tensor]:
    """Yield all images in their order, `size` at a time."""
    return (images[start : start + size] for start in range(0, len(images), size))


class EvaluationBatches:
    """Iterable of all images in their own order, normalized, in batches. Can be iterated again."""

    @checked
    def __init__(
        self,
        data: SkipValidation[LabeledImages],
        *,
        mean: SkipValidation[NDArray[np.float32]],
        std: SkipValidation[NDArray[np.float32]],
        batch_size: Annotated[int, Field(ge=2)],  # batch normalization cannot learn from one image
        device: SkipValidation[torch.device | str] = "cpu",
        channels_last: bool = False,
        gpu_share: float = 1.0,
    ) -> None:
        """Place the images on the device; see `nasx.data.batches.place`.

        Args:
            data: n images with labels.
            mean: (channels,) of pixels scaled to [0, 1].
            std: (channels,) of pixels scaled to [0, 1].
            batch_size: images per batch, at least 2.
            device: of the batches.
            channels_last: whether batches have this memory format.
            gpu_share: share of the GPU memory, in (0, 1], that this process may use.
        """
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
        """Yield normalized images; streamed ones are gathered by a thread, one batch ahead."""
        gathered = (self.pixels.gather(index) for index in indices)
        return map(self.pixels.finish, _one_ahead(gathered) if self.pixels.is_streamed else gathered)

    def _finish(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.memory_format)


class TrainingBatches(EvaluationBatches):
    """Iterable of all images once per epoch in a new order, normalized and augmented: replaces a DataLoader.

    The order of the images and their augmentation depend only on (seed, epoch). Every iteration is the next epoch,
    counted by `epoch`, which can be set to resume a training.

    No image is dropped. The last batch is smaller, but a single remaining image joins the batch before it, because
    batch normalization cannot learn from one sample.
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
        """Place the images on the device.

        Args:
            data: n images with labels.
            mean: (channels,) of pixels scaled to [0, 1].
            std: (channels,) of pixels scaled to [0, 1].
            batch_size: images per batch, at least 2.
            augmentation: of the images.
            seed: of the order and the augmentation.
            device: of the batches.
            channels_last: whether batches have this memory format.
            gpu_share: share of the GPU memory, in (0, 1], that this process may use.
        """
        super().__init__(
            data, mean=mean, std=std, batch_size=batch_size, device=device, channels_last=channels_last,
            gpu_share=gpu_share,
        )  # fmt: skip
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0  # of the next iteration
        self.n_views = data.n_views if isinstance(data, Features) else 1
        if self.n_views > 1:
            self.pixels = self.pixels.all_views()

    def __len__(self) -> int:
        return len(_batch_sizes(len(self.labels), self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        # counted at the first batch, not by iter(): Lightning creates an iterator ahead and discards it
        epoch, self.epoch = self.epoch, self.epoch + 1
        seed = derive_seed(self.seed, epoch)
        # drawn on the host, so that the order is the same on every kind of device
        on_host = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.labels), generator=on_host)
        chosen_rows = order
        if self.n_views > 1:  # each image in a random view
            chosen_rows = order + len(order) * torch.randint(self.n_views, (len(order),), generator=on_host)
        device = self.pixels.device
        generator = torch.Generator(device).manual_seed(seed)
        sizes = _batch_sizes(len(self.labels), self.batch_size)
        order_on_device = order.to(device)  # one copy: a copy per batch would wait for the device
        rows = chosen_rows if self.pixels.is_streamed else chosen_rows.to(device)
        images = self._fetch(torch.split(rows, sizes))
        for chosen, indices in zip(images, torch.split(order_on_device, sizes), strict=True):
            yield self._finish(augment(chosen, self.augmentation, generator)), self.labels[indices]


def _one_ahead(items: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield the items; a thread computes the next one while the current one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _batch_sizes(n: int, batch_size: int) -> list[int]:
    """Return batch sizes that sum to n; none is 1, unless n is 1.

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
