"""Training in plain PyTorch and float32, as an experienced engineer writes it: the peer of several benchmarks.

The recipe is that of nasx (SGD with Nesterov momentum, warm-up, cosine), so that only the implementation differs:
images come from a DataLoader sample by sample, or, faster, in whole batches from tensors in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from nasx.data.augmentation import Augmentation, augment
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.training.recipe import Recipe, learning_rate_factor

Batch = tuple[Tensor, Tensor]  # images (n, channels, height, width) float32, labels (n,)


class AugmentedImages(Dataset[Batch]):
    """Normalized images; each is cropped, mirrored and cut out when it is read."""

    def __init__(self, images: Tensor, labels: Tensor, augmentation: Augmentation, seed: int) -> None:
        """
        Args:
            images: (n, channels, height, width), normalized float32.
            labels: (n,).
            augmentation: applied to each image.
            seed: of the augmentation.
        """
        self.images = images
        self.labels = labels
        self.flip = augmentation.horizontal_flip
        self.margin = round(augmentation.crop_padding * images.shape[2])
        self.side = round(augmentation.cutout * images.shape[2])
        self.generator = Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        image = self.images[index]
        height, width = image.shape[1:]
        if self.margin:
            top, left = self._below(2 * self.margin + 1), self._below(2 * self.margin + 1)
            image = F.pad(image, [self.margin] * 4)[:, top : top + height, left : left + width]
        if self.flip and self._below(2):
            image = image.flip(2)
        if self.side:
            top, left = self._below(height) - self.side // 2, self._below(width) - self.side // 2
            image = image.clone()
            image[:, max(0, top) : top + self.side, max(0, left) : left + self.side] = 0
        return image, self.labels[index]

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.generator))


class BatchesInMemory:
    """Whole batches from tensors in memory, with nasx's augmentation of batches; replaces a DataLoader."""

    def __init__(self, images: Tensor, labels: Tensor, augmentation: Augmentation, batch_size: int, seed: int) -> None:
        """
        Args:
            images: (n, channels, height, width), normalized float32.
            labels: (n,).
            augmentation: applied to each batch.
            batch_size: images per batch.
            seed: of order and augmentation.
        """
        self.images = images
        self.labels = labels
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.generator = Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.labels), generator=self.generator)
        for chosen in torch.split(order, self.batch_size):
            yield augment(self.images[chosen], self.augmentation, self.generator), self.labels[chosen]


def tensors(images: LabeledImages, data: SearchData) -> Batch:
    """Return all images, normalized, and their labels."""
    return normalize(as_tensor(images.images), data.mean, data.std), as_tensor(images.labels)


def validation_batches(data: SearchData, batch_size: int = 1024) -> list[Batch]:
    """Return the validation images in their order."""
    images, labels = tensors(data.validation, data)
    return list(zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True))


def by_loader(data: SearchData, augmentation: Augmentation, batch_size: int, seed: int) -> DataLoader[Batch]:
    """Return training batches from a DataLoader without worker processes, since trainings occupy all cores.

    Args:
        data: its training images.
        augmentation: applied to each image.
        batch_size: images per batch.
        seed: of order and augmentation.
    """
    images = AugmentedImages(*tensors(data.train, data), augmentation, seed)
    return DataLoader(images, batch_size, shuffle=True, generator=Generator().manual_seed(seed))


def in_memory(data: SearchData, augmentation: Augmentation, batch_size: int, seed: int) -> BatchesInMemory:
    """Return training batches from tensors in memory.

    Args:
        data: its training images.
        augmentation: applied to each batch.
        batch_size: images per batch.
        seed: of order and augmentation.
    """
    return BatchesInMemory(*tensors(data.train, data), augmentation, batch_size, seed)


Batches = DataLoader[Batch] | BatchesInMemory  # of one epoch; iterate again for the next


def train(network: nn.Module, batches: Batches, validation: Iterable[Batch], recipe: Recipe) -> float:
    """Train in place and return the validation error after the last epoch, a share.

    Args:
        network: trained in place.
        batches: of the training images.
        validation: batches of the validation images.
        recipe: epochs, optimizer and schedule.
    """
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    steps, warm_up = recipe.epochs * len(batches), recipe.warmup_epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, warm_up))
    error = 1.0
    for _ in range(recipe.epochs):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        error = error_of(network, validation)
    return error


@torch.no_grad()
def error_of(network: nn.Module, validation: Iterable[Batch]) -> float:
    """Return the share of images that are misclassified."""
    network.eval()
    wrong = total = 0
    for images, labels in validation:
        wrong += int((network(images).argmax(dim=1) != labels).sum())
        total += len(labels)
    return wrong / total
