"""Training a candidate: a network and data in, the trained network and its history out.

The recipe is the paper's: cross entropy; SGD with Nesterov momentum; the learning rate rises linearly for half an
epoch, then falls to zero along a cosine. Data are tensors in memory that arrive in whole batches; Lightning runs the
loop with everything switched off that a short training does not need.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, TrainingBatches
from nasx.data.images import SearchData
from nasx.errors import SettingError, TrialFailure
from nasx.introspection.regulariser import BatchSimilarity
from nasx.trial import Reason

EVALUATION_BATCH = 1024  # images a forward pass without gradients


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a candidate is trained. Source of the defaults: the paper's CIFAR-10 recipe."""

    epochs: int = 12
    batch_size: int = 512
    learning_rate: float = 0.1  # the highest, after warm-up
    momentum: float = 0.9  # Nesterov's
    weight_decay: float = 5e-4
    warmup_epochs: float = 0.5
    regulariser: float = 0.0  # weight of the classes' similarity in the loss; 0: plain cross entropy
    # numbers in matrix products; auto: bfloat16 where the processor multiplies it in hardware
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    keep: Literal["best", "last"] = "best"  # which epoch's weights: of the best validation error, or the last

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 2)):  # batch normalisation cannot learn from one image
            if getattr(self, name) < low:
                raise SettingError(name, f"must be at least {low}, got {getattr(self, name)}")
        for name in ("learning_rate", "momentum", "weight_decay", "warmup_epochs", "regulariser"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(name, f"must be at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Fit:
    """What came of a training, beside the trained network itself."""

    history: tuple[Mapping[str, float], ...]  # one record an epoch
    validation_error: float  # share of validation images misclassified, at the epoch that was kept
    seconds: float
    macro_error: float  # mean over the classes of the share misclassified, at that epoch


def learning_rate_factor(step: int, steps: int, warmup_steps: float) -> float:
    """The share of the highest learning rate at a step: linear to 1 over the warm-up, then a cosine to 0.

    >>> [round(learning_rate_factor(s, 10, 2), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(steps - warmup_steps, 1)))


class Classifier(pl.LightningModule):  # type: ignore[misc]
    """A network with its loss, optimiser and history. Sums stay on the device: one synchronisation an epoch."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, steps_per_epoch: int, similarity: BatchSimilarity | None = None
    ) -> None:
        super().__init__()
        self.similarity = similarity
        self.network = network
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.history: list[dict[str, float]] = []
        self.best_error = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.train_sums: Tensor | None = None
        self.validation_sums: Tensor | None = None
        self.validation_classes: Tensor | None = None

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=True,
        )
        steps, warmup = recipe.epochs * self.steps_per_epoch, recipe.warmup_epochs * self.steps_per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate_factor(s, steps, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        penalty: Tensor | float = 0.0
        if self.similarity is None:
            logits = self.network(images)
        else:
            logits, penalty = self.similarity(self.network, images, labels)
        loss = F.cross_entropy(logits, labels)
        self.train_sums = _add(self.train_sums, loss.detach(), logits.detach(), labels)
        return loss + self.recipe.regulariser * penalty

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self.validation_sums = _add(self.validation_sums, F.cross_entropy(logits, labels), logits, labels)
        self.validation_classes = _add_by_class(self.validation_classes, logits, labels)

    def on_train_epoch_end(self) -> None:
        # Lightning validates before this hook: both sums are complete
        train_loss, train_error = _means(self.train_sums)
        validation_loss, validation_error = _means(self.validation_sums)
        macro_error = _macro_error(self.validation_classes)
        self.train_sums = self.validation_sums = self.validation_classes = None
        for part, loss in (("training", train_loss), ("validation", validation_loss)):
            if not math.isfinite(loss):
                raise TrialFailure(Reason.DIVERGED, f"the {part} loss was {loss} in epoch {self.current_epoch + 1}")
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "learning_rate": self.optimizers().param_groups[0]["lr"],
                "train_loss": train_loss,
                "train_error": train_error,
                "validation_loss": validation_loss,
                "validation_error": validation_error,
                "validation_macro_error": macro_error,
            }
        )
        if self.recipe.keep == "best" and validation_error < self.best_error:
            self.best_error = validation_error
            self.best_weights = copy.deepcopy(self.network.state_dict())


def _add(sums: Tensor | None, loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Running sums (loss, wrong predictions, images), on the device."""
    wrong = (logits.argmax(dim=1) != labels).sum()
    batch = torch.stack(
        [loss.float() * len(labels), wrong.float(), torch.tensor(float(len(labels)), device=loss.device)]
    )
    return batch if sums is None else sums + batch


def _means(sums: Tensor | None) -> tuple[float, float]:
    """(mean loss, share misclassified)."""
    assert sums is not None
    loss, wrong, images = sums.tolist()
    return loss / images, wrong / images


def _add_by_class(counts: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
    """Running counts (wrong predictions, images) of each class, (2, n_classes), on the device."""
    wrong = (logits.argmax(dim=1) != labels).float()
    batch = torch.zeros(2, logits.shape[1], device=labels.device)
    batch.index_add_(1, labels, torch.stack([wrong, torch.ones_like(wrong)]))
    return batch if counts is None else counts + batch


def _macro_error(counts: Tensor | None) -> float:
    """The mean, over the classes that occur, of the share of a class's images that are misclassified."""
    assert counts is not None
    wrong, images = counts[:, counts[1] > 0].double()
    return float((wrong / images).mean())


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
) -> Fit:
    """Train `network` in place on `data.train`, watching `data.validation`.

    With `micro_batches` > 1 a batch is trained on in that many parts, whose gradients are added up: it needs less
    memory, and differs by batch normalisation alone, whose statistics are then those of a part.
    `pair_weights`, (n_classes, n_classes): how much each pair of classes counts in the term that `recipe.regulariser`
    adds to the loss; None: all the same.
    The order of images and the augmentation draw from generators of `seed`; nothing else is random. The network ends
    on `device`, in evaluation mode, with the weights of the epoch that `recipe.keep` names.
    Raises TrialFailure(Reason.DIVERGED) when the loss is not finite.
    """
    started = time.perf_counter()
    bfloat16 = resolve_precision(recipe.precision, device) == "bfloat16"
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
    )
    validation = EvaluationBatches(
        data.validation,
        mean=data.mean,
        std=data.std,
        batch_size=EVALUATION_BATCH,
        device=device,
        channels_last=True,
    )
    similarity = None
    if recipe.regulariser > 0:
        weights = torch.ones(data.n_classes, data.n_classes) if pair_weights is None else pair_weights
        similarity = BatchSimilarity.of(network, next(iter(validation))[0], weights.to(device))
    steps_per_epoch = math.ceil(len(batches) / micro_batches)
    classifier = Classifier(network, recipe, steps_per_epoch, similarity)
    with _quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision="bf16-mixed" if bfloat16 else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            accumulate_grad_batches=micro_batches,
        )
        trainer.fit(classifier, batches, validation)
    kept = classifier.history[-1]
    if classifier.best_weights is not None:
        network.load_state_dict(classifier.best_weights)
        kept = min(classifier.history, key=lambda record: record["validation_error"])
    network.to(device).eval()
    return Fit(
        tuple(classifier.history),
        kept["validation_error"],
        time.perf_counter() - started,
        kept["validation_macro_error"],
    )


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
