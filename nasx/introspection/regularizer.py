"""Regularizer: a term of the training loss that moves the class means of activations apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasx.introspection.layers import PROBING_IMAGES, live_layers, observe_layers


@dataclass(frozen=True, eq=False)
class BatchSimilarity:
    """Forward pass that also computes the mean similarity of the classes inside a network."""

    layers: frozenset[str]  # names of the observed layers
    pair_weights: Tensor  # (n_classes, n_classes), symmetric, >= 0; the diagonal is not used

    @classmethod
    def of(cls, network: nn.Module, images: Tensor, pair_weights: Tensor) -> BatchSimilarity:
        """Return the similarity in the live layers of `network`, found with some `images`, (n, c, height, width)."""
        return cls(frozenset(live_layers(network, images[:PROBING_IMAGES])), pair_weights)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, (n, n_classes), and the mean similarity of the class means, a scalar to minimize."""
        one_hot = nn.functional.one_hot(labels, len(self.pair_weights)).float()
        shares = (
            one_hot / one_hot.sum(dim=0).clamp(min=1)
        ).T  # (n_classes, n): a row times the outputs is a class mean
        means: list[Tensor] = []
        with _capture_outputs(
            network, self.layers, lambda output: means.append(shares.to(output.dtype) @ _rows(output))
        ):
            logits = network(images)
        with torch.autocast(logits.device.type, enabled=False):  # bfloat16 is too coarse for similar vectors
            vectors = torch.cat(means, dim=1).float()
            return logits, mean_similarity(vectors @ vectors.T, self.pair_weights)


def mean_similarity(gram: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cosine over pairs of vectors, from inner products and weights, both (n, n).

    Pairs with a zero vector (a class that is not in the batch) are left out. Returns 0 if no pair is left.

    >>> mean_similarity(torch.tensor([[4.0, 1.0, 0], [1, 1, 0], [0, 0, 0]]), torch.ones(3, 3))
    tensor(0.5000)
    """
    squares = gram.diagonal()
    present = squares > 0
    lengths = torch.where(present, squares, 1.0).sqrt()  # 1 because the root of zero has no gradient
    counted = torch.triu(weights * (present[:, None] & present), diagonal=1)
    return (counted * gram / lengths[:, None] / lengths).sum() / counted.sum().clamp(min=torch.finfo(gram.dtype).tiny)


def pair_emphasis(n_classes: int, pair: tuple[int, int], weight: float) -> Tensor:
    """Return weights of class pairs, (n_classes, n_classes): `weight` for one pair, 1 for all others.

    >>> pair_emphasis(3, (0, 2), weight=25).tolist()
    [[1.0, 1.0, 25.0], [1.0, 1.0, 1.0], [25.0, 1.0, 1.0]]
    """
    weights = torch.ones(n_classes, n_classes)
    weights[pair[0], pair[1]] = weights[pair[1], pair[0]] = weight
    return weights


@contextmanager
def _capture_outputs(network: nn.Module, layers: frozenset[str], callback: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `callback` with the output of each of the `layers` during a forward pass of `network` in the block."""
    modules = dict(network.named_modules())
    with ExitStack() as stack:
        if layers <= modules.keys():  # hooks are cheap; observing all functions triples the time of a small network
            for name in layers:
                hook = modules[name].register_forward_hook(lambda _module, _inputs, output: callback(output))
                stack.callback(hook.remove)
        else:
            stack.enter_context(
                observe_layers(network, lambda name, output: callback(output) if name in layers else None)
            )
        yield


def _rows(output: Tensor) -> Tensor:
    """Return one row per sample. The order of features is arbitrary; this one needs no copy with channels last."""
    if output.dim() == 4 and output.is_contiguous(memory_format=torch.channels_last):
        output = output.permute(0, 2, 3, 1)
    return output.flatten(1)
