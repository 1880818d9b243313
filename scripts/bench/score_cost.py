"""Cost of scoring compared with training, with the settings of a shipped config: counted, and measured on few images.

    python -m scripts.bench.score_cost                                  # fashion_mnist and cifar10
    python -m scripts.bench.score_cost --config cifar10 --architecture "|nor_conv_3x3~0|+|..."

Counted: forward passes of one image, weighted by multiply-accumulates; a backward pass to all weights costs two, a
backward pass to only a layer's input costs one. Measured: CPU seconds for a few images of random pixels, on one thread,
scaled to the number of training and validation images of the config; SHAP explains its actual number of images. No data
is read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from nasx.config.components import build
from nasx.config.compose import compose
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData
from nasx.experiment import Experiment
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer, stage_probes
from nasx.networks.costs import count_macs
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

SHIPPED: Mapping[str, tuple[tuple[int, int, int], int]] = {  # config: image shape, published images
    "fashion_mnist": ((1, 28, 28), 60_000),
    "cifar10": ((3, 32, 32), 50_000),
}
ARCHITECTURE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
N_CLASSES = 10
TRAINED, SCORED = 256, 256  # images of the measurement: for training, for the activation score
LIMIT = 0.1  # share of the training time that scoring may take


@dataclass(frozen=True)
class Cost:
    """Cost of training and scoring one candidate."""

    config: str
    training: float
    shap: float
    activations: float
    unit: str

    @property
    def share(self) -> float:
        return (self.shap + self.activations) / self.training


@dataclass(frozen=True)
class Plan:
    """Training and scoring of a candidate by a config."""

    config: str
    shape: tuple[int, int, int]
    train: int  # images
    validation: int
    recipe: Recipe
    shap: ShapScorer
    activations: ActivationScorer
    network: nn.Sequential
    seed: int

    @property
    def explained(self) -> int:
        return self.shap.samples_per_class * N_CLASSES


def plan(config: str, architecture: str) -> Plan:
    """Return the plan of a shipped config, with both scorers, since the config records both."""
    shape, images = SHIPPED[config]
    experiment = Experiment.from_config(compose(config, ["dataset.root=none"]))
    space = experiment.space
    torch.manual_seed(0)
    split = experiment.config.split
    validation = round(split.validation_fraction * images)
    return Plan(
        config=config,
        shape=shape,
        train=min(images - validation, split.train_images or images),
        validation=min(validation, split.validation_images or images),
        recipe=experiment.recipe,
        shap=experiment.scorer,
        activations=build(experiment.config.also_scored["activations"], "also_scored.activations"),
        network=space.build(space.parse(architecture), input_shape=shape, n_classes=N_CLASSES),
        seed=experiment.score_seed,
    )


def counted(p: Plan) -> Cost:
    """Return the cost in forward passes of one image through the whole network."""
    whole = count_macs(p.network, p.shape)
    seen = p.explained + p.shap.background
    shap: float = p.explained  # the logits explained
    for probe in stage_probes(p.network):
        with torch.no_grad():
            output = probe.body(torch.zeros(1, *p.shape))
        tail = count_macs(probe.tail, tuple(output.shape[1:])) / whole  # type: ignore[arg-type]
        shap += seen * (1 - tail) + p.shap.background * tail + 2 * p.explained * p.shap.draws * tail
    training = p.recipe.epochs * (3 * p.train + p.validation)
    return Cost(p.config, training, shap, min(p.validation, p.activations.max_samples), "forward passes")


def measured(p: Plan) -> Cost:
    """Return the cost in CPU seconds, measured on a few images."""
    images = _random(p.shape, max(TRAINED, SCORED))
    data = SearchData(
        images, images.take(np.arange(N_CLASSES)), np.full(p.shape[0], 0.5, np.float32), np.ones(p.shape[0], np.float32)
    )
    once = Recipe(**{**vars(p.recipe), "epochs": 1, "batch_size": 128})
    training = seconds(
        lambda: fit(p.network, data, once, augmentation=Augmentation(), seed=0, device=torch.device("cpu"))
    )
    pixels, labels = torch.randn(SCORED, *p.shape), torch.arange(SCORED) % N_CLASSES
    p.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    shap = seconds(lambda: p.shap.score(p.network, pixels, labels, n_classes=N_CLASSES, seed=p.seed))
    activations = seconds(lambda: p.activations.score(p.network, pixels, labels, n_classes=N_CLASSES, seed=p.seed))
    forwards = p.train + p.validation / 3  # a validation image costs a forward pass, a training image three
    return Cost(
        p.config,
        training / len(data.train) * forwards * p.recipe.epochs,
        shap,
        activations * min(p.validation, p.activations.max_samples) / SCORED,
        "seconds",
    )


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU time of the second of two runs; the first warms up."""
    work()
    started = time.process_time()
    work()
    return time.process_time() - started


def main(
    config: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SHIPPED)}; may be repeated.")] = None,
    architecture: Annotated[str, typer.Option(help="The candidate, in the space's string form.")] = ARCHITECTURE,
    count_only: Annotated[bool, typer.Option("--count-only", help="Count, do not measure.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
) -> None:
    """Compare the cost of scoring with that of training."""
    torch.set_num_threads(1)
    plans = [plan(name, architecture) for name in config or SHIPPED]
    costs = [counted(p) for p in plans] + ([] if count_only else [measured(p) for p in plans])
    table = Table("config", "in", "training", "SHAP", "activations", "scoring / training", f"within {LIMIT:.0%}")
    for c in costs:
        figures = (f"{value:,.0f}" for value in (c.training, c.shap, c.activations))
        table.add_row(c.config, c.unit, *figures, f"{c.share:.2%}", "yes" if c.share <= LIMIT else "NO")
    Console(width=110).print(table)
    if json_path:
        json_path.write_text(json.dumps([{**asdict(c), "share": c.share} for c in costs], indent=1) + "\n")


def _random(shape: tuple[int, int, int], n: int) -> LabeledImages:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    return LabeledImages(pixels, np.arange(n) % N_CLASSES, tuple(map(str, range(N_CLASSES))))


if __name__ == "__main__":
    typer.run(main)
