"""Batches from tensors that stay on the device: no worker processes, no work per sample, no copies from the host.

A dataset of small images fits into memory whole; of one that does not, batches stream from its file. Gathering a batch
takes microseconds, where a DataLoader that collates sample by sample would take longer than the training step of a
small network.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasx.data.augmentation import Augmentation, augment
from nasx.data.images import LabelledImages
from nasx.errors import SettingError
from nasx.trial import derive_seed

Batch = tuple[Tensor, Tensor]  # images (b, channels, height, width) float32 normalised; labels (b,) int64


def normalise(images: Tensor, mean: Tensor | NDArray[np.float32], std: Tensor | NDArray[np.float32]) -> Tensor:
    """uint8 `images` (n, channels, height, width) as float32, (image / 255 - mean) / std, channel by channel.

    >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), np.float32([0.5]), np.float32([0.25]))
    tensor([[[[-2.,  2.]]]])
    """
    mean = torch.as_tensor(mean, device=images.device).view(-1, 1, 1)
    std = torch.as_tensor(std, device=images.device).view(-1, 1, 1)
    return images.float().mul_(1 / (255 * std)).sub_(mean / std)


class EvaluationBatches:
    """All images in their own order, normalised, `batch_size` at a time. Iterate as often as you like."""

    def __init__(
        self,
        data: LabelledImages,
        *,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        batch_size: int,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        _check_batch_size(batch_size)
        self.device = torch.device(device)
        images = as_tensor(data.images)  # of a mapped file: pages are read as they are asked for
        self.images = images if data.on_disk else images.to(device)
        self.labels = as_tensor(data.labels).to(device)
        self.mean = as_tensor(mean).to(device)
        self.std = as_tensor(std).to(device)
        self.batch_size = batch_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in zip(
            torch.split(self.images, self.batch_size), torch.split(self.labels, self.batch_size), strict=True
        ):
            yield self._finish(normalise(self._fetched(images), self.mean, self.std)), labels

    def _fetched(self, images: Tensor) -> Tensor:
        """A batch on the device: where it comes from elsewhere, by way of pinned memory, which a GPU reads itself."""
        if images.device.type == self.device.type:
            return images
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, non_blocking=True)

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
        data: LabelledImages,
        *,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        super().__init__(data, mean=mean, std=std, batch_size=batch_size, device=device, channels_last=channels_last)
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
        generator = torch.Generator(self.device).manual_seed(seed)
        sizes = _batch_sizes(len(self.labels), self.batch_size)
        for indices in torch.split(order.to(self.images.device), sizes):
            # index_select: 15 times faster than images[indices] for uint8 images
            chosen = self._fetched(self.images.index_select(0, indices))
            images = normalise(chosen, self.mean, self.std)
            yield self._finish(augment(images, self.augmentation, generator)), self.labels[indices.to(self.device)]


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


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """The array's memory as a tensor, without a copy: to be read, never written."""
    with warnings.catch_warnings():
        # arrays from Ray's object store and from files are read-only, which torch cannot express
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
