"""Gain of the training form: seconds of a training step of the original network and of its training form.

    python -m scripts.bench.training_form

Random images with the shapes of three datasets, the heaviest cell of NAS-Bench-201 and random cells, one thread,
bfloat16 if the processor supports it. Medians over repetitions that alternate between the two, so that other load on
the machine affects both.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.networks.training_form import training_form
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import resolve_precision
from nasx.trial import Genotype
from scripts.bench.candidate import CELLS

N_CLASSES, REPETITIONS, RANDOM_CELLS = 10, 7, 20
SETTINGS = {  # images, batch, channels, cells
    "digits": ((1, 8, 8), 128, 8, 1),
    "Fashion-MNIST, C=8, N=1": ((1, 28, 28), 256, 8, 1),
    "Fashion-MNIST, C=16, N=1": ((1, 28, 28), 128, 16, 1),
    "CIFAR-10, C=16, N=1": ((3, 32, 32), 256, 16, 1),
}


def random_cells(space: NASBench201) -> list[Genotype]:
    """Return distinct random networks, the same in every run."""
    rng = random.Random(0)
    found: set[Genotype] = set()
    while len(found) < RANDOM_CELLS:
        genotype = tuple(rng.randrange(size) for size in space.gene_sizes)
        if space.is_connected(genotype):
            found.add(space.canonical(genotype))
    return sorted(found)


def step(network: nn.Module, images: Tensor, labels: Tensor, *, bfloat16: bool) -> Callable[[], float]:
    """Return a function that makes one training step and returns its CPU time in seconds.

    Args:
        network: trained in place.
        images: one batch, (n, channels, height, width).
        labels: (n,).
        bfloat16: whether to use mixed precision.
    """
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)

    def timed() -> float:
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started

    return timed


def saving(space: NASBench201, genotype: Genotype, images: Tensor) -> float:
    """Return the speedup of a step in training form.

    Args:
        space: builds the network.
        genotype: the cell.
        images: one batch, (n, channels, height, width).
    """
    torch.manual_seed(0)
    network = space.build(genotype, input_shape=tuple(images.shape[1:]), n_classes=N_CLASSES)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labels = torch.arange(len(images)) % N_CLASSES
    bfloat16 = resolve_precision("auto", torch.device("cpu")) == "bfloat16"
    form, plain = (step(each, images, labels, bfloat16=bfloat16) for each in (training_form(network), network))
    pairs = [(plain(), form()) for _ in range(REPETITIONS + 2)][2:]  # the first two warm up
    return statistics.median(p[0] for p in pairs) / statistics.median(p[1] for p in pairs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, (shape, batch, channels, cells) in SETTINGS.items():
        space = NASBench201(channels=channels, cells=cells)
        images = torch.randn(batch, *shape).contiguous(memory_format=torch.channels_last)
        heavy = saving(space, space.parse(CELLS["heavy"]), images)
        others = [saving(space, genotype, images) for genotype in random_cells(space)]
        spread = f"{min(others):.2f} to {max(others):.2f}"
        print(f"{name:24} heaviest cell {heavy:.2f} times as fast; {RANDOM_CELLS} random cells, median ", end="")
        print(f"{statistics.median(others):.2f} ({spread})")
