"""Networks, images and trainings of the checks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasx.data import batches
from nasx.data.augmentation import Augmentation
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.npz import NumpyArrays
from nasx.data.splits import split
from nasx.evaluation.train_and_score import EvaluationSpec, evaluate
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import FitResult, fit
from nasx.training.recipe import Recipe
from nasx.trial import Evaluation, Job
from scripts.bench.candidate import CELLS, Setting, network_of, random_data
from scripts.bench.gpu_check.checking import DEVICE, IS_CUDA

AUGMENTATION = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)
FULL = Setting(
    name="CIFAR-10, C=16, N=5",
    shape=(3, 32, 32),
    images=40_000,  # of 50,000; the benchmark adds a fifth of this number for validation
    channels=16,
    cells=5,
    recipe=Recipe(epochs=12, batch_size=512),
    augmentation=Augmentation(horizontal_flip=True),
    target=8.0,
)
SMALL = replace(
    FULL,
    name="small",
    images=1024 if IS_CUDA else 512,
    channels=8,
    cells=1,
    recipe=Recipe(epochs=2, batch_size=64, keep="last", learning_rate=0.05),
)
BIG = FULL if IS_CUDA else replace(SMALL, name="as large as a CPU can", recipe=Recipe(epochs=2, batch_size=64))


def learnable(setting: Setting = SMALL) -> SearchData:
    """Return random images with a brightness that depends on the class."""
    data = random_data(setting)

    def lit(part: LabeledImages) -> LabeledImages:
        brightness = (24 * part.labels[:, None, None, None]).astype(np.uint8)
        return replace(part, images=(part.images // 8 + brightness).astype(np.uint8))

    return replace(data, train=lit(data.train), validation=lit(data.validation))


def real() -> SearchData:
    """Return the images of --data; without --data, `learnable` images."""
    file = os.environ.get("NASX_GPU_CHECK_DATA")
    if file is None:
        return learnable()
    return split(NumpyArrays(file=file, test_fraction=0.02).train(), seed=0)


def trained(
    cell: str = "median",
    setting: Setting = SMALL,
    data: SearchData | None = None,
    *,
    device: torch.device = DEVICE,
    seed: int = 0,
    network: nn.Sequential | None = None,
    recipe: dict[str, Any] | None = None,
    **of_fit: Any,
) -> tuple[nn.Sequential, FitResult]:
    """Train a network and return it with the result.

    Args:
        cell: a name of CELLS.
        setting: network and recipe.
        data: images; default: `learnable`.
        device: for the training.
        seed: of the network.
        network: to train instead of the cell.
        recipe: changes to the setting's recipe.
        of_fit: further arguments of `fit`.
    """
    network = network if network is not None else network_of(setting, cell, seed)
    changed = replace(setting.recipe, **(recipe or {}))
    data = data or learnable(setting)
    return network, fit(network, data, changed, augmentation=AUGMENTATION, seed=seed, device=device, **of_fit)


@contextmanager
def streamed() -> Iterator[None]:
    """Stream images in the block, as if they did not fit into the GPU's memory."""
    share = batches.DATA_SHARE
    batches.DATA_SHARE = 0.0  # type: ignore[misc]
    try:
        yield
    finally:
        batches.DATA_SHARE = share  # type: ignore[misc]


def are_equal(one: nn.Module, other: nn.Module) -> bool:
    """Return whether the weights of two networks are bit-identical."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def pixels(part: LabeledImages, data: SearchData, device: torch.device = DEVICE) -> tuple[Tensor, Tensor]:
    """Return normalized images and labels on the device."""
    return normalize(as_tensor(part.images).to(device), data.mean, data.std), as_tensor(part.labels).to(device)


def evaluated(setting: Setting = SMALL, data: SearchData | None = None, *, seed: int = 0, **of_spec: Any) -> Evaluation:
    """Evaluate the median cell as a trial of a search does.

    Args:
        setting: network and recipe.
        data: images; default: `learnable`.
        seed: of the trial.
        of_spec: arguments of `EvaluationSpec`, and `micro_batches` of the job.
    """
    space = NASBench201(channels=setting.channels, cells=setting.cells)
    file = Path(tempfile.mkdtemp(), "w.safetensors")
    job = Job(
        arch_id=str(seed), replicate=0, genotype=space.parse(CELLS["median"]), seed=seed, weights_file=file,
        micro_batches=of_spec.pop("micro_batches", 1),
    )  # fmt: skip
    spec = EvaluationSpec(
        space=space,
        recipe=setting.recipe,
        augmentation=AUGMENTATION,
        scorer=of_spec.pop("scorer", ShapScorer()),
        also_scored=(ActivationScorer(),),
        device=DEVICE.type,
        **of_spec,
    )
    return evaluate(job, spec, data or learnable(setting))
