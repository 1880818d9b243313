"""Class centroids: mean activations of each class, and distances of single images to them.

The vector of an image is the concatenation of the activations of all layers, as in the activation score. It is never
built: cosines only need inner products and squared lengths, which are summed layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from nasx.data.batches import Batch, EvaluationBatches
from nasx.data.dataset import LabeledImages, SearchData
from nasx.errors import ArchitectureError
from nasx.introspection.activations import class_sums
from nasx.introspection.layers import evaluation_mode, live_layers, observe_layers

BATCH = 256  # images per forward pass
PROBING_IMAGES = 16  # to distinguish live and dead layers


@dataclass(frozen=True, eq=False)
class Centroids:
    """Class means of a network's activations over labeled images."""

    layers: Mapping[str, Tensor]  # live layer -> means (n_classes, n_features), float32, on the network's device
    squares: NDArray[np.float64]  # (n_classes,) squared length of each centroid
    counts: NDArray[np.int64]  # (n_classes,) images of each class


@dataclass(frozen=True, eq=False)
class Comparison:
    """Logits of images, and their inner products with class centroids."""

    logits: NDArray[np.float64]  # (n, n_classes)
    products: NDArray[np.float64]  # (n, n_classes) inner products of each image's vector with each centroid
    squares: NDArray[np.float64]  # (n,) squared length of each image's vector


def class_centroids(network: nn.Module, images: LabeledImages, data: SearchData) -> Centroids:
    """Return the class centroids of labeled images.

    Memory: n_classes times all activations of one image. Raises ArchitectureError if the network has no convolution and
    no activation.

    Args:
        network: trained.
        images: labeled images.
        data: images on which it was trained, for their mean and standard deviation.
    """
    by_class = images.take(np.argsort(images.labels, kind="stable"))
    probing = next(iter(_batches(network, images, data)))[0][:PROBING_IMAGES]
    return centroids_of_batches(network, _batches(network, by_class, data), probing=probing, n_classes=images.n_classes)


def centroids_of_batches(network: nn.Module, batches: Iterable[Batch], *, probing: Tensor, n_classes: int) -> Centroids:
    """Return the class centroids of the images in batches.

    Raises ArchitectureError if the network has no convolution and no activation.

    Args:
        network: trained.
        batches: images and labels; sorted by class is fastest.
        probing: (n, channels, height, width) images that distinguish live and dead layers.
        n_classes: number of classes.
    """
    layers = live_layers(network, probing)
    if not layers:
        raise ArchitectureError("this network has no convolution and no activation that reaches its logits")
    counts = np.zeros(n_classes, dtype=np.int64)

    def counted() -> Iterator[Batch]:
        for images, labels in batches:
            counts[:] += torch.bincount(labels, minlength=n_classes).cpu().numpy()
            yield images, labels

    sums = class_sums(network, counted(), n_classes=n_classes, layers=layers)
    sizes = torch.from_numpy(np.maximum(counts, 1)).to(next(iter(sums.values())).device)
    means, squares = {}, torch.zeros(n_classes, dtype=torch.float64, device=sizes.device)
    for name in layers:
        mean = sums.pop(name).flatten(1) / sizes[:, None]  # pop to free memory: the sums are large
        squares += mean.square().sum(dim=1)
        means[name] = mean.float()
    return Centroids(means, squares.cpu().numpy(), counts)


def compare(network: nn.Module, images: LabeledImages, data: SearchData, centroids: Centroids) -> Comparison:
    """Return the logits of images and their inner products with centroids, in one pass without storing activations.

    Args:
        network: trained.
        images: labeled images.
        data: images on which it was trained, for their mean and standard deviation.
        centroids: of the same network.
    """
    return compare_batches(network, _batches(network, images, data), centroids)


def compare_batches(network: nn.Module, batches: Iterable[Batch], centroids: Centroids) -> Comparison:
    """Return the logits of the images in batches, in order, and their inner products with centroids."""
    parts = [_compare(network, batch, centroids) for batch, _ in batches]
    logits, products, squares = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return Comparison(logits, products, squares)


def _compare(network: nn.Module, batch: Tensor, centroids: Centroids) -> tuple[Tensor, Tensor, Tensor]:
    n, n_classes = len(batch), len(centroids.squares)
    products = torch.zeros(n, n_classes, dtype=torch.float64, device=batch.device)
    squares = torch.zeros(n, dtype=torch.float64, device=batch.device)

    def take(name: str, output: Tensor) -> None:
        if name in centroids.layers:
            rows = output.flatten(1)
            products.add_(rows @ centroids.layers[name].T)
            squares.add_(rows.square().sum(dim=1))

    with evaluation_mode(network), torch.no_grad(), observe_layers(network, take):
        logits = network(batch)
    return logits.double(), products, squares


def cosine_distances(products: ArrayLike, squares: ArrayLike, centroid_squares: ArrayLike) -> NDArray[np.float64]:
    """Return the cosine distance 1 - cos in [0, 2] of each image to each centroid, (n, n_classes).

    A zero vector has no direction; its distance is 1.

    Args:
        products: (n, n_classes) inner products.
        squares: (n,) squared lengths of the images.
        centroid_squares: squared lengths of the centroids, (n_classes,), or (n, n_classes) if each image has its own.

    >>> cosine_distances([[3, 0], [0, 0]], squares=[9, 0], centroid_squares=[4, 1]).tolist()
    [[0.5, 1.0], [1.0, 1.0]]
    """
    lengths = np.sqrt(np.asarray(squares, dtype=np.float64)[:, None] * np.asarray(centroid_squares, dtype=np.float64))
    cosines = np.divide(np.asarray(products, dtype=np.float64), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    distances: NDArray[np.float64] = np.clip(1 - cosines, 0, 2)
    return distances


def leave_one_out_distances(comparison: Comparison, labels: ArrayLike, centroids: Centroids) -> NDArray[np.float64]:
    """Return distances of images to the centroids of all other images, (n, n_classes).

    Without image x, the centroid c of its class of n images is (n c - x) / (n - 1). Its inner product with x is
    (n <c, x> - <x, x>) / (n - 1), and its squared length (n^2 <c, c> - 2 n <c, x> + <x, x>) / (n - 1)^2.

    Args:
        comparison: of the images from which the centroids were computed.
        labels: (n,) their labels.
        centroids: of these images.
    """
    labels = np.asarray(labels)
    rows, n = np.arange(len(labels)), centroids.counts[labels].astype(np.float64)
    others = np.maximum(n - 1, 1)  # without the only image of a class, its centroid is the zero vector
    own, square = comparison.products[rows, labels], comparison.squares
    products = comparison.products.copy()
    centroid_squares = np.tile(centroids.squares, (len(labels), 1))
    products[rows, labels] = np.where(n > 1, (n * own - square) / others, 0)
    without = (n**2 * centroid_squares[rows, labels] - 2 * n * own + square) / others**2
    centroid_squares[rows, labels] = np.where(n > 1, np.maximum(without, 0), 0)
    return cosine_distances(products, square, centroid_squares)


def _batches(network: nn.Module, images: LabeledImages, data: SearchData) -> EvaluationBatches:
    device = next(network.parameters()).device
    return EvaluationBatches(images, mean=data.mean, std=data.std, batch_size=BATCH, device=device)
