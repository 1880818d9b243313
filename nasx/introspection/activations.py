"""Introspectability by activations, as the paper defines it.

Samples are grouped by class, the outputs of all layers of interest are concatenated and averaged over each class, and
the score is the mean cosine distance between classes. Source: Carmichael, Moon, Jacobs, 2023, Eq. 1.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from nasx.config.settings import checked
from nasx.data.batches import Pixels, split_batches, take
from nasx.errors import SettingError, TrialFailure, did_you_mean
from nasx.introspection.base import BatchedScorer, make_score
from nasx.introspection.class_similarity import pair_weights, read_similarity
from nasx.introspection.layers import PROBING_IMAGES, evaluation_mode, live_layers, observe_layers
from nasx.introspection.similarity import cosine_distances, gram, mean_distances, means_from_sums
from nasx.trial import Reason, Score

CPU_BATCH: Final = 128  # images: their activations fit into the cache
GPU_BATCH: Final = 1000  # images: eight times fewer kernel launches


class ActivationScorer(BatchedScorer):
    """Scorer: mean cosine distance between the class means of all activations."""

    @checked
    def __init__(
        self,
        *,
        group_by: Literal["true", "predicted"] = "true",
        layer_balanced: bool = False,
        max_samples: Annotated[int, Field(ge=1)] = 25_000,
        batch_size: Annotated[int, Field(ge=1)] | None = None,
        layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None,
        similarity: Path | None = None,
    ) -> None:
        """Store the settings and read the class similarities.

        Args:
            group_by: class of a sample: "true" (the paper's text) or "predicted" (the paper's code).
            layer_balanced: average the distances of the layers. False: concatenate the layers, so that large ones
                dominate.
            max_samples: maximum number of images used.
            batch_size: images in memory at a time. None: 128, on a GPU 1,000.
            layers: modules, e.g. stages; only layers inside them count. None: the whole network.
            similarity: CSV of class similarities, the weights of the class pairs. None: all weights are 1.
        """
        self.group_by = group_by
        self.layer_balanced = layer_balanced
        self.max_samples = max_samples
        self.batch_size = batch_size
        self.layers = layers
        self.similarity = read_similarity(similarity) if similarity is not None else None

    @property
    def name(self) -> str:
        variants = (
            ("predicted", self.group_by == "predicted"),
            ("balanced", self.layer_balanced),
            ("weighted", self.similarity is not None),
        )
        return "_".join(["activations", *(variant for variant, chosen in variants if chosen)])

    def check_network(self, network: nn.Sequential, images: Tensor) -> None:
        """Raise SettingError if none of the layers reaches the logits of a network."""
        if not self._layers(network, images):
            raise SettingError("layers", "must have a convolution or activation that reaches the logits, got none")

    def _layers(self, network: nn.Module, images: Tensor) -> list[str]:
        """Return the layers that are scored."""
        layers = live_layers(network, images)
        return layers_inside(layers, self.layers) if layers and self.layers is not None else layers

    def score(self, network: nn.Module, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int) -> Score:
        """Return the score; see `nasx.protocols.Scorer`. The seed has an effect only above `max_samples` images."""
        started = time.perf_counter()
        batch_size = self._part_of(self.batch_size or (CPU_BATCH if images.device.type == "cpu" else GPU_BATCH))
        weights = pair_weights(self.similarity, n_classes)
        if len(images) > self.max_samples:
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: self.max_samples]
            images = take(images, chosen)
            labels = labels[chosen.to(labels.device)]
        if self.group_by == "predicted":
            labels = predict(network, images, batch_size=batch_size)
        layers = self._layers(network, images[:PROBING_IMAGES])
        if not layers:
            raise TrialFailure(Reason.NO_SCORE, f"{self.name}: no convolution or activation reaches the logits")
        grams = class_grams(network, images, labels, n_classes=n_classes, layers=layers, batch_size=batch_size)
        by_layer = {name: cosine_distances(products) for name, products in grams.items()}
        if self.layer_balanced:
            distances = mean_distances(list(by_layer.values()))
        else:
            distances = cosine_distances(np.sum(list(grams.values()), axis=0))
        return make_score(self.name, distances, by_layer, weights=weights, n_samples=len(images), started=started)


def layers_inside(layers: Sequence[str], modules: Sequence[str]) -> list[str]:
    """Return those of the `layers` that are inside one of the `modules`, or equal to one.

    Raises SettingError if a module contains none of the layers.

    >>> layers_inside(["stem.0", "stage1.0.conv", "stage1.0.act", "stage10.0"], ["stage1"])
    ['stage1.0.conv', 'stage1.0.act']
    """

    def is_inside(layer: str, module: str) -> bool:
        return layer == module or layer.startswith((f"{module}.", f"{module}#"))

    for module in modules:
        if not any(is_inside(layer, module) for layer in layers):
            known = {layer.rsplit(".", depth)[0] for layer in layers for depth in range(layer.count(".") + 1)}
            problem = f"must be modules with a convolution or activation that reaches the logits, got {module!r}."
            raise SettingError("layers", f"{problem} {did_you_mean(module, known)}")
    return [layer for layer in layers if any(is_inside(layer, module) for module in modules)]


def predict(network: nn.Module, images: Tensor | Pixels, *, batch_size: int) -> Tensor:
    """Return the class with the largest logit for each image, (n,) int64."""
    with evaluation_mode(network), torch.no_grad():
        return torch.cat([network(batch).argmax(dim=1) for batch in split_batches(images, batch_size)])


def class_grams(
    network: nn.Module, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, layers: list[str], batch_size: int
) -> dict[str, NDArray[np.float64]]:
    """Return the Gram matrix of the class means of each layer's activations, (n_classes, n_classes), by layer.

    Args:
        network: network with the layers.
        images: images, (n, channels, height, width).
        labels: class of each image, (n,) int64.
        n_classes: number of classes.
        layers: names of the layers, as in `observe_layers`.
        batch_size: images in memory at a time.
    """
    batches = ((images[batch], labels[batch]) for batch in torch.split(class_order(labels), batch_size))
    sums = class_sums(network, batches, n_classes=n_classes, layers=layers)
    counts = torch.bincount(labels, minlength=n_classes).cpu().numpy()
    return {name: gram(means_from_sums(sums[name].flatten(1).cpu().numpy(), counts)) for name in layers}


def class_order(labels: Tensor) -> Tensor:
    """Return the indices that sort `labels`, (n,), stably by class: `class_sums` is fastest in this order."""
    return torch.argsort(labels, stable=True)


def class_sums(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, n_classes: int, layers: list[str]
) -> dict[str, Tensor]:
    """Return the sums of each layer's activations over the samples of each class, (n_classes, ...) float64, by layer.

    Needs memory for n_classes times all activations of one image.

    Args:
        network: network with the layers.
        batches: pairs of images and their labels.
        n_classes: number of classes.
        layers: names of the layers, as in `observe_layers`.
    """
    sums: dict[str, Tensor] = {}
    for images, labels in batches:
        # in a batch sorted by class each class is a run of rows: summing runs takes half the time of a product with
        # one-hot labels, and needs no copy in float64
        classes, lengths = (t.tolist() for t in torch.unique_consecutive(labels, return_counts=True))

        def add(name: str, output: Tensor, classes: list[int] = classes, lengths: list[int] = lengths) -> None:
            if name not in layers:
                return
            if name not in sums:
                sums[name] = torch.zeros(n_classes, *output.shape[1:], dtype=torch.float64, device=output.device)
            for label, rows in zip(classes, torch.split(output, lengths), strict=True):
                sums[name][label] += _sum_rows(rows)

        with evaluation_mode(network), torch.no_grad(), observe_layers(network, add):
            network(images)
    return sums


def _sum_rows(rows: Tensor) -> Tensor:
    """Return the sum over the first axis, in float64."""
    if rows.dtype is torch.float32 and rows.device.type == "cpu":
        # numpy converts to float64 in small pieces; torch would first copy the whole tensor
        return torch.from_numpy(np.add.reduce(rows.numpy(), axis=0, dtype=np.float64))
    return rows.sum(dim=0, dtype=torch.float64)
