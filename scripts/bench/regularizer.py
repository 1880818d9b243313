"""Cost of the regularizer: seconds of a training step with and without it.

    python -m scripts.bench.regularizer

Measures whole steps, including backward pass and optimizer, on random images with the shapes of real datasets, on one
thread. Without the regularizer the network has its training form, as in `fit`. Reports medians over repetitions that
alternate between the two, so that other load on the machine affects both.
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
    """Return a function that makes one training step and returns its CPU time in seconds."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def timed() -> float:
        started = time.process_time()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return time.process_time() - started

    return timed


def measure(shape: tuple[int, int, int], genotype: tuple[int, ...]) -> tuple[float, float]:
    """Return the median seconds of a step (without, with) the regularizer."""
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
    pairs = [(plain(), with_term()) for _ in range(REPETITIONS + 1)][1:]  # the first pair warms up
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dataset, shape in SHAPES.items():
        for cell, genotype in CELLS.items():
            without, with_term = measure(shape, genotype)
            figures = f"{1000 * without:6.1f} ms without, {1000 * with_term:6.1f} ms with"
            print(f"{dataset:14} {cell:21} {figures}: {with_term / without:.2f} times")
