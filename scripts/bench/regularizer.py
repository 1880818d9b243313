"""What the regularizer costs: seconds of a training step with it against seconds without.

    python -m scripts.bench.regularizer

Whole steps, backward pass and optimiser included, on random images of the shapes of real datasets, one thread; without
it in the network's training form, as `fit` trains it. The median over repetitions that alternate between the two, so
that other load on the machine meets both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from nasx.introspection.regularizer import BatchSimilarity
from nasx.networks.training_form import training_form
from nasx.spaces.nb201 import NASBench201

N_CLASSES, BATCH, REPETITIONS = 10, 128, 9
SHAPES = {"digits": (1, 8, 8), "Fashion-MNIST": (1, 28, 28), "CIFAR-10": (3, 32, 32)}
CELLS = {"all 3x3 convolutions": (3, 3, 3, 3, 3, 3), "three convolutions": (2, 1, 4, 1, 2, 3)}


def step(network: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds of CPU time."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def timed() -> float:
        started = time.process_time()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return time.process_time() - started

    return timed


def measure(shape: tuple[int, int, int], genotype: tuple[int, ...]) -> tuple[float, float]:
    """Median seconds of a step (without, with) the regularizer."""
    torch.manual_seed(0)
    network = NASBench201(channels=16, cells=1).build(genotype, input_shape=shape, n_classes=N_CLASSES)
    network.to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, *shape).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % N_CLASSES
    similarity = BatchSimilarity.of(network, images, torch.ones(N_CLASSES, N_CLASSES))

    def regularized() -> torch.Tensor:
        logits, penalty = similarity(network, images, labels)
        return F.cross_entropy(logits, labels) + 0.5 * penalty

    form = training_form(network)
    plain, with_term = step(form, lambda: F.cross_entropy(form(images), labels)), step(network, regularized)
    couples = [(plain(), with_term()) for _ in range(REPETITIONS + 1)][1:]  # the first one warms up
    return statistics.median(c[0] for c in couples), statistics.median(c[1] for c in couples)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dataset, shape in SHAPES.items():
        for cell, genotype in CELLS.items():
            without, with_term = measure(shape, genotype)
            figures = f"{1000 * without:6.1f} ms without, {1000 * with_term:6.1f} ms with"
            print(f"{dataset:14} {cell:21} {figures}: {with_term / without:.2f} times")
