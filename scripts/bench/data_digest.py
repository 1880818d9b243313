"""Time to describe the content of 50,000 images: class names, labels, pixels and split, as each search does once.

    python -m scripts.bench data_digest [--quick] [--data-root DIR]

A search computes it while Ray starts in the background. With the data root, the images are those of CIFAR-10; without,
random ones of the same shape, which cost the same. Processor time: other work on the machine does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from nasx.data.cifar import CIFAR10
from nasx.data.dataset import LabeledImages
from nasx.data.digest import describe_images, describe_split
from scripts.bench.measurement import Measurement, Options

N_IMAGES = 50_000
TARGET = 0.5  # seconds, by which a search may start later
TURNS = 5


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def random_images(n: int) -> LabeledImages:
    """Return random images of the shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    return LabeledImages(pixels, rng.integers(0, 10, n), tuple(f"class {number}" for number in range(10)))


def benchmark(options: Options) -> Iterator[Measurement]:
    """Measure the description of the training images of CIFAR-10."""
    if options.data_root is not None:
        images, source = CIFAR10(root=str(options.data_root)).train(), "CIFAR-10"
    else:
        images, source = random_images(5_000 if options.quick else N_IMAGES), "random pixels"
    order = np.random.default_rng(0).permutation(len(images))
    cut = len(images) // 5

    def describe() -> None:
        describe_images(images)
        describe_split(order[cut:], order[:cut])

    turns = tuple(processor_seconds(describe) for _ in range(2 if options.quick else TURNS))
    what = f"content of {len(images):,} images of {source}"
    yield Measurement(what, "the start of a search", turns, target=TARGET)
