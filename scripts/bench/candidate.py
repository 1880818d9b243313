"""Training speed of one candidate: fit() compared with plain PyTorch in float32 and with the roofline.

    python -m scripts.bench candidate [--quick]

Measures images per CPU second on one thread, including validation after every epoch: of nasx, of a plain loop with a
DataLoader, and of the same loop with tensors in memory. Three cells of NAS-Bench-201: light, median and heavy by
multiply-accumulates. Images are random; they cost as much as real ones. Also reports the share of the roofline
(`scripts.bench.roofline`) that fit() reaches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import fit, resolve_precision
from nasx.training.recipe import Recipe
from scripts.bench.measurement import Measurement, Options, interleave
from scripts.bench.plain_training import Batches, by_loader, in_memory, train, validation_batches
from scripts.bench.roofline import Limits, training_step

CPU = torch.device("cpu")
N_CLASSES = 10
CELLS = {  # the 10th percentile, the median and the maximum of the space's 5,043 networks by multiply-accumulates
    "light": "|nor_conv_1x1~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|skip_connect~2|",
    "median": "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_1x1~2|",
    "heavy": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
}


@dataclass(frozen=True)
class Setting:
    """Shape of the images, and size and training of the networks."""

    name: str
    shape: tuple[int, int, int]
    images: int  # for training; a fifth as many for validation
    channels: int
    cells: int
    recipe: Recipe
    augmentation: Augmentation
    target: float  # minimum speedup over the loop with tensors in memory


# as in configs/digits.yaml, mnist.yaml and cifar10.yaml, with fewer images and epochs
SETTINGS = (
    Setting(
        name="digits, 8x8, C=8, N=1",
        shape=(1, 8, 8),
        images=1437,
        channels=8,
        cells=1,
        recipe=Recipe(epochs=4, batch_size=128, keep="last"),
        augmentation=Augmentation(crop_padding=0, cutout=0.125),
        target=1.3,
    ),
    Setting(
        name="28x28, C=16, N=5",
        shape=(1, 28, 28),
        images=512,
        channels=16,
        cells=5,
        recipe=Recipe(epochs=1, batch_size=256, keep="last"),
        augmentation=Augmentation(),
        target=1.0,
    ),
    Setting(
        name="32x32, C=16, N=5",
        shape=(3, 32, 32),
        images=512,
        channels=16,
        cells=5,
        recipe=Recipe(epochs=1, batch_size=256),
        augmentation=Augmentation(horizontal_flip=True),
        target=2.5,
    ),
)


def random_data(setting: Setting) -> SearchData:
    """Return random images with labels that do not depend on them."""
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(N_CLASSES)))

    def part(n: int) -> LabeledImages:
        images = rng.integers(0, 256, (n, *setting.shape), dtype=np.uint8)
        return LabeledImages(images, np.arange(n) % N_CLASSES, names)

    half = np.full(setting.shape[0], 0.5, dtype=np.float32)
    return SearchData(part(setting.images), part(setting.images // 5), half, half)


def network_of(setting: Setting, cell: str, seed: int = 0) -> nn.Sequential:
    """Return a fresh network, the same for the same seed.

    Args:
        setting: size of the network.
        cell: a name of CELLS.
        seed: of the weights.
    """
    space = NASBench201(channels=setting.channels, cells=setting.cells)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(space.parse(CELLS[cell]), input_shape=setting.shape, n_classes=N_CLASSES)


def contenders(setting: Setting, cell: str, data: SearchData) -> Mapping[str, Callable[[], float]]:
    """Return trainings by name; each returns its images per second.

    Args:
        setting: network and recipe.
        cell: a name of CELLS.
        data: images.
    """
    recipe, augmentation = setting.recipe, setting.augmentation

    def rate(training: Callable[[nn.Module], object]) -> Callable[[], float]:
        def measured() -> float:
            network = network_of(setting, cell)
            started = time.process_time()
            training(network)
            return recipe.epochs * len(data.train) / (time.process_time() - started)

        return measured

    def plain(batches: Callable[..., Batches]) -> Callable[[nn.Module], float]:
        return lambda network: train(
            network, batches(data, augmentation, recipe.batch_size, seed=0), validation_batches(data), recipe
        )

    return {
        "nasx": rate(lambda network: fit(network, data, recipe, augmentation=augmentation, seed=0, device=CPU)),
        "tensors in memory": rate(plain(in_memory)),
        "DataLoader": rate(plain(by_loader)),
    }


def roofline_share(
    setting: Setting, cell: str, data: SearchData, limits: Limits, rates: tuple[float, ...]
) -> Measurement:
    """Return the share of the roofline that fit() reaches, in percent.

    Args:
        setting: network and recipe.
        cell: a name of CELLS.
        data: images.
        limits: peak rates of the machine.
        rates: images per second of fit(), one per turn.
    """
    n = min(setting.recipe.batch_size, setting.images)
    images = normalize(as_tensor(data.train.images[:n]), data.mean, data.std)
    network = network_of(setting, cell).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = training_step(
        network,
        images.contiguous(memory_format=torch.channels_last),
        as_tensor(data.train.labels[:n]),
        bfloat16=resolve_precision(setting.recipe.precision, CPU) == "bfloat16",
        limits=limits,
    )
    return Measurement(
        what=f"fit(), {setting.name}, {cell} cell",
        against="roofline of the training step",
        ours=tuple(100 * rate * work.seconds / n for rate in rates),
        unit="%",
        better="more",
        note=f"{work.flops / n / 1e6:,.0f} MFLOP and {work.bytes / n / 1e6:.1f} MB per image",
    )


def benchmark(options: Options) -> Iterator[Measurement]:
    """Yield both ratios and the share of the roofline for every setting and cell."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        limits = Limits.measured(CPU)
        precision = resolve_precision("auto", CPU)
        for setting in SETTINGS[::2] if options.quick else SETTINGS:
            data = random_data(setting)
            for cell in ("median",) if options.quick else CELLS:
                repeats = 1 if options.quick else 3
                rates = interleave(contenders(setting, cell, data), repeats, warm_up=not options.quick)
                for peer, target in (("tensors in memory", setting.target), ("DataLoader", 1.0)):
                    yield Measurement(
                        what=f"fit(), {setting.name}, {cell} cell",
                        against=f"plain float32 loop, {peer}",
                        ours=rates["nasx"],
                        theirs=rates[peer],
                        unit="images/s",
                        better="more",
                        target=target,
                        note=f"nasx in {precision}",
                    )
                yield roofline_share(setting, cell, data, limits, rates["nasx"])
    finally:
        torch.set_num_threads(threads)
