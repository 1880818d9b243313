"""Class centroids: the mean activations of each class, and how far single images lie from them.

An image's vector is the concatenation of all its layers' activations, as in the activation score. It is never made:
inner products and squared lengths are added up layer by layer, and a cosine needs no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from nasx.data.batches import Batch, EvaluationBatches
from nasx.data.dataset import LabelledImages, SearchData
from nasx.errors import ArchitectureError
from nasx.introspection.activations import class_sums
from nasx.introspection.layers import evaluation_mode, live_layers, observe_layers

BATCH = 256  # images a forward pass
PROBING_IMAGES = 16  # with which live layers are told from dead ones


@dataclass(frozen=True, eq=False)
class Centroids:
    """The class means of a network's activations over labelled images."""

    layers: Mapping[str, Tensor]  # live layer -> means (n_classes, n_features), float32, on the network's device
    squares: NDArray[np.float64]  # (n_classes,) squared length of each centroid
    counts: NDArray[np.int64]  # (n_classes,) images behind each


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a network makes of images, beside centroids."""

    logits: NDArray[np.float64]  # (n, n_classes)
    products: NDArray[np.float64]  # (n, n_classes) inner products of each image's vector with each centroid
    squares: NDArray[np.float64]  # (n,) squared length of each image's vector


def class_centroids(network: nn.Module, images: LabelledImages, data: SearchData) -> Centroids:
    """The centroids of `images`, normalised as `data` says; holds n_classes times all activations of one image.

    Raises ArchitectureError where the network has no layer of interest.
    """
    by_class = images.take(np.argsort(images.labels, kind="stable"))
    probing = next(iter(_batches(network, images, data)))[0][:PROBING_IMAGES]
    return centroids_of(network, _batches(network, by_class, data), probing=probing, n_classes=images.n_classes)


def centroids_of(network: nn.Module, batches: Iterable[Batch], *, probing: Tensor, n_classes: int) -> Centroids:
    """The centroids of the images in `batches`: fastest where these are sorted by class.

    Layers are found with the images `probing`, (n, ...). Raises ArchitectureError where there is none of interest.
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
        mean = sums.pop(name).flatten(1) / sizes[:, None]  # popped: the sums of all layers are large
        squares += mean.square().sum(dim=1)
        means[name] = mean.float()
    return Centroids(means, squares.cpu().numpy(), counts)


def judge(network: nn.Module, images: LabelledImages, data: SearchData, centroids: Centroids) -> Judgement:
    """Logits of `images` and their inner products with the centroids, in one pass; keeps no activation."""
    return judge_batches(network, _batches(network, images, data), centroids)


def judge_batches(network: nn.Module, batches: Iterable[Batch], centroids: Centroids) -> Judgement:
    """The same for the images in `batches`, in their order."""
    parts = [_judge(network, batch, centroids) for batch, _ in batches]
    logits, products, squares = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return Judgement(logits, products, squares)


def _judge(network: nn.Module, batch: Tensor, centroids: Centroids) -> tuple[Tensor, Tensor, Tensor]:
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
    """Cosine distance 1 - cos in [0, 2] of each image to each centroid, (n, n_classes).

    From inner products (n, n_classes), squared lengths of the images (n,) and of the centroids: (n_classes,), or
    (n, n_classes) where each image has its own. A zero vector has no direction: it is unrelated to all, distance 1.

    >>> cosine_distances([[3, 0], [0, 0]], squares=[9, 0], centroid_squares=[4, 1]).tolist()
    [[0.5, 1.0], [1.0, 1.0]]
    """
    lengths = np.sqrt(np.asarray(squares, dtype=np.float64)[:, None] * np.asarray(centroid_squares, dtype=np.float64))
    cosines = np.divide(np.asarray(products, dtype=np.float64), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    distances: NDArray[np.float64] = np.clip(1 - cosines, 0, 2)
    return distances


def distances_without_itself(judgement: Judgement, labels: ArrayLike, centroids: Centroids) -> NDArray[np.float64]:
    """Distances of the images that the centroids were made of, (n, n_classes): none vouches for itself.

    An image x is taken out of the centroid c of its class of n images, which leaves (n c - x) / (n - 1). Of that the
    inner product with x is (n <c, x> - <x, x>) / (n - 1), and its squared length follows likewise.
    """
    labels = np.asarray(labels)
    rows, n = np.arange(len(labels)), centroids.counts[labels].astype(np.float64)
    others = np.maximum(n - 1, 1)  # the only image of its class: what is left is the zero vector
    own, square = judgement.products[rows, labels], judgement.squares
    products = judgement.products.copy()
    centroid_squares = np.tile(centroids.squares, (len(labels), 1))
    products[rows, labels] = np.where(n > 1, (n * own - square) / others, 0)
    left = (n**2 * centroid_squares[rows, labels] - 2 * n * own + square) / others**2
    centroid_squares[rows, labels] = np.where(n > 1, np.maximum(left, 0), 0)
    return cosine_distances(products, square, centroid_squares)


def _batches(network: nn.Module, images: LabelledImages, data: SearchData) -> EvaluationBatches:
    device = next(network.parameters()).device
    return EvaluationBatches(images, mean=data.mean, std=data.std, batch_size=BATCH, device=device)
