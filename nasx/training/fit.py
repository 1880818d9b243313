"""Training a candidate: a network and data in, the trained network and its history out.

The recipe is the paper's: cross entropy; SGD with Nesterov momentum; the learning rate rises linearly for half an
epoch, then falls to zero along a cosine. Data are tensors in memory that arrive in whole batches; Lightning runs the
epochs, and the network learns in its training form.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, TrainingBatches
from nasx.data.dataset import SearchData
from nasx.introspection.regularizer import BatchSimilarity
from nasx.networks.training_form import FORM, take_back, training_form
from nasx.training.checkpoint import load_checkpoint, save_checkpoint
from nasx.training.cuda_graphs import WORTH_IT
from nasx.training.lightning_module import Classifier, Epochs
from nasx.training.recipe import Recipe

EVALUATION_BATCH = 1024  # images a forward pass without gradients, at most


@dataclass(frozen=True)
class Fit:
    """What came of a training, beside the trained network itself."""

    history: tuple[Mapping[str, float], ...]  # one record an epoch
    validation_error: float  # share of validation images misclassified, at the epoch that was kept
    seconds: float
    macro_error: float  # mean over the classes of the share misclassified, at that epoch
    graphed: bool = False  # whether training steps ran as CUDA graphs
    graph_failure: str = ""  # why they did not although they should have


def resolve_precision(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `auto` means on a device: bfloat16 where matrix units or vector instructions multiply it."""
    if precision != "auto":
        return "bfloat16" if precision == "bfloat16" else "float32"
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # absent before torch 2.8; without hardware bfloat16 is emulated, several times slower than float32
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
) -> Fit:
    """Train `network` in place on `data.train`, and validate it on `data.validation` after every epoch.

    The order of images and the augmentation draw from generators of `seed`; nothing else is random. The network ends
    on `device`, in evaluation mode, with the weights of the epoch that `recipe.keep` names. Nothing of the training
    outlives the call, not even for the garbage collector.

    Args:
        network: untrained, or with the weights from which to start.
        data: training and validation images.
        recipe: epochs, batch size, optimizer, ...
        augmentation: of the training images.
        seed: of the order of images and of the augmentation.
        device: CPU or GPU.
        micro_batches: parts into which batches are split if memory is short. Their gradients are added up; the
            statistics of batch normalization are those of a part.
        pair_weights: how much each pair of classes counts in the term that `recipe.regularizer` adds to the loss,
            (n_classes, n_classes); None: all the same.
        checkpoint: a file that is written after every epoch. If it exists, the training goes on from it, to the same
            result.
        report: called with the record of every epoch.
        cuda_graphs: whether to capture training and validation steps as CUDA graphs. None: if the device is a GPU,
            batches are whole, there is no regularizer, and the steps are enough to pay for the capture. A step that
            cannot be captured runs eagerly; the result says so.
        gpu_share: of the GPU's memory, in (0, 1], that this process may use.

    Raises:
        TrialFailure: with Reason.DIVERGED, if the loss is not finite.
        RunError: if the checkpoint is of another training.
    """
    can_be_graphed = _can_be_graphed(device, recipe, micro_batches)
    if cuda_graphs is None:
        cuda_graphs = can_be_graphed and recipe.epochs * (len(data.train) // recipe.batch_size) >= WORTH_IT
    elif cuda_graphs and not can_be_graphed:
        raise ValueError("CUDA graphs need a GPU, whole batches (micro_batches=1) and no regularizer")
    started = time.perf_counter()
    # channels last: faster for convolutions on CPUs and GPUs alike
    network.to(device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = TrainingBatches(
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
    validation = EvaluationBatches(
        data.validation,
        mean=data.mean,
        std=data.std,
        batch_size=_even_size(len(data.validation), max(2, EVALUATION_BATCH // micro_batches)),
        device=device,
        channels_last=True,
        gpu_share=gpu_share,
    )
    similarity = None
    if recipe.regularizer > 0:
        weights = torch.ones(data.n_classes, data.n_classes) if pair_weights is None else pair_weights
        similarity = BatchSimilarity.of(network, next(iter(validation))[0], weights.to(device))
    # what looks into the network while it learns has to see the network itself
    form = training_form(network) if similarity is None else network
    steps_per_epoch = math.ceil(len(batches) / micro_batches)
    identity = {
        "recipe": recipe.as_record(),
        "seed": seed,
        "images": len(data.train),
        "micro_batches": micro_batches,
        "form": FORM,
    }

    def after_epoch(trained: Classifier) -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, trained.checkpoint(identity))
        if report is not None:
            report(trained.history[-1])

    classifier = Classifier(
        form,
        recipe,
        steps_per_epoch,
        bfloat16=resolve_precision(recipe.precision, device) == "bfloat16",
        micro_batches=micro_batches,
        similarity=similarity,
        cuda_graphs=cuda_graphs,
        after_epoch=after_epoch,
    )
    if checkpoint is not None and (found := load_checkpoint(checkpoint, identity)) is not None:
        classifier.restore(found)
        batches.epoch = len(found.history)
    with _quiet_lightning(), _repeatable(), _trainer(recipe.epochs - len(classifier.history), device) as trainer:
        try:
            trainer.fit(classifier, Epochs(batches), validation)
        finally:
            graphs = dict(classifier.graphs)
            classifier.graphs.clear()  # they hold the classifier, and it them: neither would be freed
    failures = [f"{part}: {step.failure}" for part, step in graphs.items() if step.failure]
    kept = classifier.history[-1]
    if classifier.best_weights is not None:
        form.load_state_dict(classifier.best_weights)
        kept = min(classifier.history, key=lambda record: record["validation_error"])
    elif classifier.average is not None:
        form.load_state_dict(classifier.result.state_dict())
    if form is not network:
        take_back(network, form)
    network.to(device).eval()
    return Fit(
        tuple(classifier.history),
        kept["validation_error"],
        time.perf_counter() - started,
        kept["validation_macro_error"],
        graphed="training" in graphs and graphs["training"].is_captured,
        graph_failure="; ".join(failures),
    )


def _can_be_graphed(device: torch.device, recipe: Recipe, micro_batches: int) -> bool:
    return device.type == "cuda" and micro_batches == 1 and recipe.regularizer == 0


def _even_size(n: int, most: int) -> int:
    """Size of the batches into which `n` images are split as evenly as can be, none larger than `most`.

    Equal batches can all be replayed by one CUDA graph.

    >>> _even_size(10_000, 1024), _even_size(100, 1024), _even_size(1025, 1024)
    (1000, 100, 513)
    """
    return max(2, -(-n // -(-n // most)))


@contextmanager
def _repeatable() -> Iterator[None]:
    """In the block cuDNN uses deterministic algorithms only, and chooses them without trying them out."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


class _OneDevice(SingleDeviceStrategy):  # type: ignore[misc]
    """Lightning's strategy for one device, without its teardown, which moves the network and its optimizer to the CPU.

    Each of their tensors would be waited for. `fit` leaves the network on the device, and scorers need it there.
    """

    def teardown(self) -> None:
        self.precision_plugin.teardown()


@contextmanager
def _trainer(epochs: int, device: torch.device) -> Iterator[pl.Trainer]:
    """Lightning's trainer, with everything switched off that a short training does not need.

    Its parts refer to each other, to the network and to the optimizer. They are taken apart in the end: otherwise only
    the garbage collector would free them, and the memory of a GPU would outlive its trial.
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
        inference_mode=False,  # it would make tensors that later epochs may not change
    )
    try:
        yield trainer
    finally:
        vars(trainer).clear()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning without its tips: they advise loader workers and checkpoints, which we leave out on purpose."""
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
