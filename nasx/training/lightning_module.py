"""A network while it is trained: loss, optimiser, what every epoch measures, and the state that a checkpoint keeps.

On a GPU a step is captured as a CUDA graph. All of its state therefore lies in tensors that are changed in place: the
learning rate, the sums of an epoch, the average of the weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.data.batches import Batch, TrainingBatches
from nasx.errors import TrialFailure
from nasx.introspection.regularizer import BatchSimilarity
from nasx.training.checkpoint import Checkpoint
from nasx.training.cuda_graphs import GraphedStep, Step
from nasx.training.recipe import Recipe, learning_rate_factor
from nasx.trial import Reason


@dataclass(frozen=True)
class Epochs:
    """Training data as Lightning is given them: one item an epoch, all its batches."""

    batches: TrainingBatches

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[TrainingBatches]:
        yield self.batches


class WeightAverage(nn.Module):
    """An exponential moving average of a network's weights and statistics. An update never waits for the device."""

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))
        self._is_empty = True  # known to the host, unlike `n_averaged`

    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step; the first ones are copied."""
        with torch.no_grad():
            floats: tuple[list[Tensor], list[Tensor]] = ([], [])
            for average, new in zip(self.module.state_dict().values(), network.state_dict().values(), strict=True):
                if self._is_empty or not new.is_floating_point():
                    average.copy_(new)
                else:
                    floats[0].append(average)
                    floats[1].append(new)
            if floats[0]:
                torch._foreach_lerp_(*floats, 1 - self.decay)
            self.n_averaged += 1
        self._is_empty = False

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        found = super().load_state_dict(state_dict, strict, assign)
        self._is_empty = int(self.n_averaged) == 0
        return found


class Classifier(pl.LightningModule):  # type: ignore[misc]
    """A network with its loss, optimiser and history. Sums stay on the device: one synchronisation an epoch.

    What Lightning takes for a training step is a whole epoch (`Epochs`): all that it does around a step took as long as
    a seventh of the step of a small network.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        steps_per_epoch: int,
        *,
        bfloat16: bool = False,
        micro_batches: int = 1,
        similarity: BatchSimilarity | None = None,
        cuda_graphs: bool = False,
        after_epoch: Callable[[Classifier], None] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.bfloat16 = bfloat16
        self.micro_batches = micro_batches
        self.similarity = similarity
        self.after_epoch = after_epoch
        self.cuda_graphs = cuda_graphs
        self.graphs: dict[str, GraphedStep] = {}  # "training", "validation"; empty: steps run eagerly
        self.average = WeightAverage(network, recipe.average) if recipe.average else None
        self.updates = 0  # of the weights; more than 0 at the start if the training goes on from a checkpoint
        self.momentum: Mapping[str, Tensor] = {}  # of that checkpoint
        self.history: list[Mapping[str, float]] = []
        self.best_error = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.train_sums: Tensor | None = None
        self.validation_sums: Tensor | None = None
        self.validation_classes: Tensor | None = None

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            # a captured step reads it from a tensor
            lr=torch.tensor(recipe.learning_rate, device=self.device) if self.cuda_graphs else recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=True,
        )
        for name, parameter in self.network.named_parameters():
            if name in self.momentum:
                # laid out in memory as its parameter: the fused step takes both as they lie
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(self.momentum[name])
        return optimizer

    def on_train_start(self) -> None:
        if self.cuda_graphs:
            optimizer = self.optimizers(use_pl_optimizer=False)
            self.graphs = {
                "training": GraphedStep(self.train_on, optimizer.zero_grad),
                "validation": GraphedStep(self.validate_on),
            }

    def training_step(self, batches: TrainingBatches, _: int) -> None:
        """An epoch."""
        train_on: Step = self.graphs.get("training", self.train_on)
        for number, (images, labels) in enumerate(batches, start=1):
            if number % self.micro_batches and number < len(batches):
                self.accumulate(images, labels)
                continue
            self._set_learning_rate()
            train_on(images, labels)
            self.updates += 1

    def accumulate(self, images: Tensor, labels: Tensor) -> None:
        """Add the gradients of a batch, or of a part of one."""
        (self.loss(images, labels) / self.micro_batches).backward()  # type: ignore[no-untyped-call]

    def train_on(self, images: Tensor, labels: Tensor) -> None:
        """Update the weights by a batch and the gradients that have been accumulated."""
        self.accumulate(images, labels)
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.step()
        optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.network)

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        recipe = self.recipe
        steps, warmup = recipe.epochs * self.steps_per_epoch, recipe.warmup_epochs * self.steps_per_epoch
        return recipe.learning_rate * learning_rate_factor(self.updates, steps, warmup)

    def _set_learning_rate(self) -> None:
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self.learning_rate)
            else:
                group["lr"] = self.learning_rate

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """What a batch adds to the training loss, a scalar; the sums of the epoch take it in."""
        penalty: Tensor | float = 0.0
        with self.autocast():
            if self.similarity is None:
                logits = self.network(images)
            else:
                logits, penalty = self.similarity(self.network, images, labels)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        self.train_sums = _add(self.train_sums, loss.detach(), logits.detach(), labels)
        return loss + self.recipe.regularizer * penalty

    def autocast(self) -> torch.autocast:
        """Around a forward pass, not its backward pass, and a new one for every step: it keeps the weights it casts."""
        # a captured step must not keep them
        keep = not self.cuda_graphs
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=keep)

    @property
    def result(self) -> nn.Module:
        """The network that comes of the training: with the average of the weights where the recipe asks for it."""
        return self.network if self.average is None else self.average.module

    def validation_step(self, batch: Batch, _: int) -> None:
        validate_on: Step = self.graphs.get("validation", self.validate_on)
        validate_on(*batch)

    def validate_on(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch to the sums of the validation."""
        with self.autocast():
            logits = self.result(images)
            loss = F.cross_entropy(logits, labels)
        self.validation_sums = _add(self.validation_sums, loss, logits, labels)
        self.validation_classes = _add_by_class(self.validation_classes, logits, labels)

    def on_train_epoch_end(self) -> None:
        # Lightning validates before this hook: both sums are complete
        train_loss, train_error = _means(self.train_sums)
        validation_loss, validation_error = _means(self.validation_sums)
        macro_error = _macro_error(self.validation_classes)
        for sums in (self.train_sums, self.validation_sums, self.validation_classes):
            if sums is not None:
                sums.zero_()
        for part, loss in (("training", train_loss), ("validation", validation_loss)):
            if not math.isfinite(loss):
                raise TrialFailure(Reason.DIVERGED, f"the {part} loss was {loss} in epoch {len(self.history) + 1}")
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                "learning_rate": self.learning_rate,
                "train_loss": train_loss,
                "train_error": train_error,
                "validation_loss": validation_loss,
                "validation_error": validation_error,
                "validation_macro_error": macro_error,
            }
        )
        if self.recipe.keep == "best" and validation_error < self.best_error:
            self.best_error = validation_error
            self.best_weights = copy.deepcopy(self.result.state_dict())
        if self.after_epoch is not None:
            self.after_epoch(self)

    def checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """The state after the epochs that are in `history`."""
        state = self.optimizers(use_pl_optimizer=False).state if self.recipe.momentum else {}
        momentum = {n: state[p]["momentum_buffer"] for n, p in self.network.named_parameters() if p in state}
        tensors = {"network": self.network.state_dict(), "momentum": momentum, "best": self.best_weights or {}}
        if self.average is not None:
            tensors["average"] = self.average.state_dict()
        return Checkpoint(identity, tuple(self.history), tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from what `checkpoint` gave. Before the training begins."""
        self.history = list(checkpoint.history)
        self.updates = len(self.history) * self.steps_per_epoch
        self.network.load_state_dict(checkpoint.tensors["network"])
        self.momentum = checkpoint.tensors.get("momentum", {})
        if self.average is not None:
            self.average.load_state_dict(checkpoint.tensors["average"])
        if "best" in checkpoint.tensors:
            self.best_weights = dict(checkpoint.tensors["best"])
            self.best_error = min(record["validation_error"] for record in self.history)


def _add(sums: Tensor | None, loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Running sums (loss, wrong predictions, images), on the device; changed in place after the first batch."""
    wrong = (logits.argmax(dim=1) != labels).sum().float()
    # full_like: filled on the device, where torch.tensor would copy from the host and wait for it
    batch = torch.stack([loss.float() * len(labels), wrong, torch.full_like(wrong, len(labels))])
    return batch if sums is None else sums.add_(batch)


def _means(sums: Tensor | None) -> tuple[float, float]:
    """(mean loss, share misclassified)."""
    assert sums is not None
    loss, wrong, images = sums.tolist()
    return loss / images, wrong / images


def _add_by_class(counts: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
    """Running counts (wrong predictions, images) of each class, (2, n_classes), on the device; changed in place."""
    wrong = (logits.argmax(dim=1) != labels).float()
    batch = torch.zeros(2, logits.shape[1], device=labels.device)
    batch.index_add_(1, labels, torch.stack([wrong, torch.ones_like(wrong)]))
    return batch if counts is None else counts.add_(batch)


def _macro_error(counts: Tensor | None) -> float:
    """The mean, over the classes that occur, of the share of a class's images that are misclassified."""
    assert counts is not None
    wrong, images = counts[:, counts[1] > 0].double()
    return float((wrong / images).mean())
