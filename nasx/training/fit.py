"""Train a candidate: `fit` takes a network and data, and returns the history of the training.

The recipe is the paper's: cross entropy; SGD with Nesterov momentum; the learning rate rises linearly for half an
epoch, then falls to zero along a cosine. Data are tensors in memory, read in whole batches. Lightning runs the epochs,
and the network is trained in its training form.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from nasx.backbones.features import on_features
from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, TrainingBatches
from nasx.data.dataset import SearchData
from nasx.introspection.regularizer import BatchSimilarity
from nasx.networks.training_form import FORM, copy_weights_back, training_form
from nasx.training.checkpoint import load_checkpoint, save_checkpoint
from nasx.training.cuda_graphs import MIN_GRAPHED_STEPS, GraphedStep
from nasx.training.lightning_module import Classifier, Epochs
from nasx.training.recipe import Recipe

NO_AUGMENTATION = Augmentation(crop_padding=0, cutout=0)
EVALUATION_BATCH = 1024  # maximum number of images in a forward pass without gradients


@dataclass(frozen=True)
class FitResult:
    """Result of a training. The trained network is the one that was passed to `fit`."""

    history: tuple[Mapping[str, float], ...]  # one record per epoch
    validation_error: float  # share of misclassified validation images, in [0, 1], in the epoch that is kept
    seconds: float
    macro_error: float  # mean over the classes of their share of misclassified images, in the same epoch
    graphed: bool = False  # True if training steps ran as CUDA graphs
    graph_failure: str = ""  # why a step could not be captured as a CUDA graph


def resolve_precision(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the precision on a device; "auto" is bfloat16 if matrix units or vector instructions multiply it.

    >>> resolve_precision("float32", torch.device("cpu"))
    'float32'
    """
    if precision != "auto":
        return "bfloat16" if precision == "bfloat16" else "float32"
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # missing before torch 2.8. Without hardware support bfloat16 is emulated, several times slower than float32
    features: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if features.get("amx_bf16") or features.get("avx512_bf16") else "float32"


def fit(
    network: nn.Module,
    data: SearchData,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    micro_batches: int = 1,
    pair_weights: Tensor | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
    cuda_graphs: bool | None = None,
    gpu_share: float = 1.0,
) -> FitResult:
    """Train `network` in place on `data.train`, and validate it on `data.validation` after every epoch.

    Of a network with a frozen backbone, the part on top is trained on cached features, if `data` has a source of them.
    The order of images, the augmentation and dropout draw from `seed`; nothing else is random. Afterwards the
    network is on `device`, in evaluation mode, with the weights of the epoch that `recipe.keep` names. All memory of
    the training is freed when the function returns, without the garbage collector.

    Args:
        network: untrained, or with the weights from which to start.
        data: training and validation images.
        recipe: epochs, batch size, optimizer, ...
        augmentation: of the training images.
        seed: of the order of images and of the augmentation.
        device: CPU or GPU.
        micro_batches: parts into which batches are split if memory is short. Their gradients are added up; the
            statistics of batch normalization are those of a part.
        pair_weights: weight of each pair of classes in the term that `recipe.regularizer` adds to the loss,
            (n_classes, n_classes); None: equal weights.
        checkpoint: a file that is written after every epoch. If it exists, the training continues from it, to the
            same result.
        report: called with the record of every epoch.
        cuda_graphs: whether to capture training and validation steps as CUDA graphs. None: if the device is a GPU,
            batches are whole, there is no regularizer, and there are enough steps to pay for the capture. A step that
            cannot be captured runs eagerly, with the reason in `graph_failure` of the result.
        gpu_share: share of the GPU's memory, in (0, 1], that this process may use.

    Raises:
        TrialFailure: with Reason.DIVERGED, if the loss is not finite.
        RunError: if the checkpoint is damaged or belongs to another training.
    """
    use_graphs = _decide_graphs(cuda_graphs, device, recipe, micro_batches, len(data.train))
    started = time.perf_counter()
    whole, images = network, data
    if isinstance(whole, nn.Sequential):
        network, data = on_features(whole, images, views=recipe.views, augmentation=augmentation)
    if data is not images:  # the views are augmented
        augmentation = NO_AUGMENTATION
    # channels last: faster for convolutions on CPUs and GPUs
    network.to(device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = _training_batches(data, recipe, augmentation, seed, device, micro_batches, gpu_share)
    validation = _validation_batches(data, device, micro_batches, gpu_share)
    similarity = _class_similarity(network, recipe, validation, pair_weights, data.n_classes, device)
    # the regularizer reads feature maps of the network's own layers
    form = training_form(network) if similarity is None else network
    identity = _identity(recipe, seed, len(data.train), micro_batches)
    classifier = Classifier(
        form,
        recipe,
        math.ceil(len(batches) / micro_batches),
        bfloat16=resolve_precision(recipe.precision, device) == "bfloat16",
        micro_batches=micro_batches,
        similarity=similarity,
        class_weights=balancing_weights(data.train.labels, data.n_classes, device) if recipe.class_weights else None,
        cuda_graphs=use_graphs,
        after_epoch=_after_epoch(checkpoint, identity, report),
    )
    if checkpoint is not None and (found := load_checkpoint(checkpoint, identity)) is not None:
        classifier.restore(found)
        batches.epoch = len(found.history)
    graphs = _run_epochs(classifier, batches, validation, device)
    kept = _load_kept_weights(form, classifier)
    if form is not network:
        copy_weights_back(network, form)
    whole.to(device).eval()
    return _result(classifier.history, kept, graphs, time.perf_counter() - started)


def _decide_graphs(
    cuda_graphs: bool | None, device: torch.device, recipe: Recipe, micro_batches: int, n_images: int
) -> bool:
    """Return whether to capture steps as CUDA graphs."""
    can_be_graphed = _can_be_graphed(device, recipe, micro_batches)
    if cuda_graphs is None:
        return can_be_graphed and recipe.epochs * (n_images // recipe.batch_size) >= MIN_GRAPHED_STEPS
    if cuda_graphs and not can_be_graphed:
        raise ValueError("CUDA graphs need a GPU, whole batches (micro_batches=1) and no regularizer")
    return cuda_graphs


def _can_be_graphed(device: torch.device, recipe: Recipe, micro_batches: int) -> bool:
    return device.type == "cuda" and micro_batches == 1 and recipe.regularizer == 0


def _training_batches(
    data: SearchData,
    recipe: Recipe,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    micro_batches: int,
    gpu_share: float,
) -> TrainingBatches:
    return TrainingBatches(
        data.train,
        mean=data.mean,
        std=data.std,
        batch_size=max(2, recipe.batch_size // micro_batches),
        augmentation=augmentation,
        seed=seed,
        device=device,
        channels_last=True,
        gpu_share=gpu_share,
    )


def _validation_batches(
    data: SearchData, device: torch.device, micro_batches: int, gpu_share: float
) -> EvaluationBatches:
    return EvaluationBatches(
        data.validation,
        mean=data.mean,
        std=data.std,
        batch_size=_even_size(len(data.validation), max(2, EVALUATION_BATCH // micro_batches)),
        device=device,
        channels_last=True,
        gpu_share=gpu_share,
    )


def _class_similarity(
    network: nn.Module,
    recipe: Recipe,
    validation: EvaluationBatches,
    pair_weights: Tensor | None,
    n_classes: int,
    device: torch.device,
) -> BatchSimilarity | None:
    """Return the term that the regularizer adds to the loss; None without a regularizer."""
    if recipe.regularizer == 0:
        return None
    weights = torch.ones(n_classes, n_classes) if pair_weights is None else pair_weights
    return BatchSimilarity.of(network, next(iter(validation))[0], weights.to(device))


def balancing_weights(labels: NDArray[np.int64], n_classes: int, device: torch.device) -> Tensor:
    """Return weights of the classes inverse to their numbers of images, (n_classes,), with mean 1 over the images.

    >>> balancing_weights(np.array([0, 0, 0, 1, 1, 1, 1, 1]), 2, torch.device("cpu"))
    tensor([1.3333, 0.8000])
    """
    counts = np.bincount(labels, minlength=n_classes)
    weights = len(labels) / (n_classes * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=device)


def _identity(recipe: Recipe, seed: int, n_images: int, micro_batches: int) -> dict[str, Any]:
    """Return what a checkpoint must agree on with the training that continues from it."""
    return {
        "recipe": recipe.as_record(),
        "seed": seed,
        "images": n_images,
        "micro_batches": micro_batches,
        "form": FORM,
    }


def _after_epoch(
    checkpoint: Path | None, identity: Mapping[str, Any], report: Callable[[Mapping[str, float]], None] | None
) -> Callable[[Classifier], None]:
    """Return a function that saves the checkpoint and reports the record of an epoch."""

    def after_epoch(trained: Classifier) -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, trained.checkpoint(identity))
        if report is not None:
            report(trained.history[-1])

    return after_epoch


def _run_epochs(
    classifier: Classifier, batches: TrainingBatches, validation: EvaluationBatches, device: torch.device
) -> dict[str, GraphedStep]:
    """Train until the last epoch. Returns the steps that were to run as CUDA graphs, by part."""
    epochs = classifier.recipe.epochs - len(classifier.history)
    own_generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with _quiet_lightning(), _repeatable(), own_generators, _trainer(epochs, device) as trainer:
        try:
            trainer.fit(classifier, Epochs(batches), validation)
        finally:
            graphs = dict(classifier.graphs)
            classifier.graphs.clear()  # breaks the cycle of graphs and classifier, which would keep both in memory
    return graphs


def _load_kept_weights(form: nn.Module, classifier: Classifier) -> Mapping[str, float]:
    """Load the weights of the epoch that the recipe keeps, or their average. Returns the record of the epoch."""
    if classifier.best_weights is not None:
        form.load_state_dict(classifier.best_weights)
        return min(classifier.history, key=lambda record: record["validation_error"])
    if classifier.average is not None:
        form.load_state_dict(classifier.evaluated_network.state_dict())
    return classifier.history[-1]


def _result(
    history: Sequence[Mapping[str, float]],
    kept: Mapping[str, float],
    graphs: Mapping[str, GraphedStep],
    seconds: float,
) -> FitResult:
    return FitResult(
        tuple(history),
        kept["validation_error"],
        seconds,
        kept["validation_macro_error"],
        graphed="training" in graphs and graphs["training"].is_captured,
        graph_failure="; ".join(f"{part}: {step.failure}" for part, step in graphs.items() if step.failure),
    )


def _even_size(n: int, most: int) -> int:
    """Return the size of batches that split `n` images as evenly as possible, at most `most` each.

    One CUDA graph can replay all batches of the same size.

    >>> _even_size(10_000, 1024), _even_size(100, 1024), _even_size(1025, 1024)
    (1000, 100, 513)
    """
    return max(2, -(-n // -(-n // most)))


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let cuDNN use only deterministic algorithms in the block, and choose them without benchmarks."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


class _OneDevice(SingleDeviceStrategy):  # type: ignore[misc]
    """Lightning's strategy for one device, without its teardown, which moves the network and its optimizer to the CPU.

    The CPU would wait for each of their tensors. Scorers need the network on the device.
    """

    def teardown(self) -> None:
        self.precision_plugin.teardown()


@contextmanager
def _trainer(epochs: int, device: torch.device) -> Iterator[pl.Trainer]:
    """Yield Lightning's trainer, without the features that a short training does not need.

    Its parts refer to each other, to the network and to the optimizer. These references are deleted in the end:
    otherwise only the garbage collector would free the GPU memory of a trial.
    """
    is_cuda, index = device.type == "cuda", device.index or 0
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cuda" if is_cuda else "cpu",
        devices=[index] if is_cuda else 1,
        strategy=_OneDevice(torch.device("cuda", index) if is_cuda else device),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # its tensors could not be changed in later epochs
    )
    try:
        yield trainer
    finally:
        vars(trainer).clear()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's warnings in the block: they recommend loader workers and checkpoints, which are not used."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            warnings.filterwarnings("ignore", module="lightning_fabric")
            yield
    finally:
        logger.setLevel(level)
