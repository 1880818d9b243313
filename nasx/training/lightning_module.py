"""Training of a network in Lightning: loss, optimizer, metrics of every epoch, and the state of a checkpoint.

On a GPU, steps are captured as CUDA graphs. All state of a step is therefore in tensors that are changed in place: the
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
from nasx.networks.backbone import backbone_of
from nasx.training.checkpoint import Checkpoint
from nasx.training.cuda_graphs import GraphedStep, Step
from nasx.training.recipe import Recipe, learning_rate_factor
from nasx.trial import Reason, derive_seed


@dataclass(frozen=True)
class Epochs:
    """Training data for Lightning: each item is a whole epoch with all its batches."""

    batches: TrainingBatches

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[TrainingBatches]:
        yield self.batches


class WeightAverage(nn.Module):
    """Exponential moving average of a network's weights and statistics. An update never waits for the device."""

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))
        self._is_empty = True  # on the host: reading `n_averaged` would wait for the device

    def update(self, network: nn.Module) -> None:
        """Update the average by the weights after a step; the first weights are copied."""
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
    """Network with its loss, optimizer and history. Sums stay on the device: it is synchronized once per epoch.

    A training step of Lightning is a whole epoch (`Epochs`): Lightning's overhead per step took a seventh of the time
    of a small network's step.
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
        class_weights: Tensor | None = None,
        cuda_graphs: bool = False,
        after_epoch: Callable[[Classifier], None] | None = None,
    ) -> None:
        """Prepare a training from the first epoch; `restore` continues one from a checkpoint.

        Args:
            network: the network to train, in the form in which it is trained.
            recipe: settings of the training.
            steps_per_epoch: updates of the weights per epoch.
            bfloat16: compute forward passes in bfloat16.
            micro_batches: number of batches whose gradients are added up for an update.
            similarity: term that the regularizer adds to the loss; None: none.
            class_weights: of the classes in the training loss, (n_classes,), on the device; None: equal weights.
            cuda_graphs: capture steps as CUDA graphs.
            after_epoch: called with this object after every epoch.
        """
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.bfloat16 = bfloat16
        self.micro_batches = micro_batches
        self.similarity = similarity
        self.class_weights = class_weights
        self.after_epoch = after_epoch
        self.cuda_graphs = cuda_graphs
        self.graphs: dict[str, GraphedStep] = {}  # "training", "validation"; empty: steps run eagerly
        self.average = WeightAverage(network, recipe.average) if recipe.average else None
        self.updates = 0  # of the weights, including those before the checkpoint
        self.momentum: Mapping[str, Tensor] = {}  # from the checkpoint
        self.history: list[Mapping[str, float]] = []
        self.best_error = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.train_sums: Tensor | None = None
        self.validation_sums: Tensor | None = None
        self.validation_classes: Tensor | None = None

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self._parameter_groups(),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=True,
        )
        for name, parameter in self.network.named_parameters():
            if name in self.momentum:
                # same memory layout as the parameter: the fused step assumes it
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(self.momentum[name])
        return optimizer

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters; those of a backbone in a group of their own, with a lower learning rate."""
        backbone = backbone_of(self.network)
        slow = {id(parameter) for parameter in backbone.parameters()} if backbone is not None else set()
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        own = {"params": [p for p in trained if id(p) not in slow], "rate": 1.0}
        pretrained = {"params": [p for p in trained if id(p) in slow], "rate": self.recipe.unfreeze_rate}
        groups = [group for group in (own, pretrained) if group["params"]]
        for group in groups:  # a captured step reads the rate from a tensor: torch would share one between the groups
            rate = self.recipe.learning_rate
            group["lr"] = torch.tensor(rate, device=self.device) if self.cuda_graphs else rate
        return groups

    def on_train_start(self) -> None:
        if self.cuda_graphs:
            optimizer = self.optimizers(use_pl_optimizer=False)
            self.graphs = {
                "training": GraphedStep(self.train_on, optimizer.zero_grad),
                "validation": GraphedStep(self.validate_on),
            }

    def training_step(self, batches: TrainingBatches, _: int) -> None:
        """Train for an epoch. Dropout draws from torch's generator: seeded by epoch, so that a training can resume."""
        torch.manual_seed(derive_seed(batches.seed, "dropout", batches.epoch))
        train_on: Step = self.graphs.get("training", self.train_on)
        for number, (images, labels) in enumerate(batches, start=1):
            if number % self.micro_batches and number < len(batches):
                self.accumulate(images, labels)
                continue
            self._set_learning_rate()
            train_on(images, labels)
            self.updates += 1

    def accumulate(self, images: Tensor, labels: Tensor) -> None:
        """Add the gradients of a batch, or of a part of a batch."""
        (self.loss(images, labels) / self.micro_batches).backward()  # type: ignore[no-untyped-call]

    def train_on(self, images: Tensor, labels: Tensor) -> None:
        """Update the weights by the gradients of a batch and the accumulated ones."""
        self.accumulate(images, labels)
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.step()
        optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.network)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        recipe = self.recipe
        steps, warmup = recipe.epochs * self.steps_per_epoch, recipe.warmup_epochs * self.steps_per_epoch
        return recipe.learning_rate * learning_rate_factor(self.updates, steps, warmup)

    def _set_learning_rate(self) -> None:
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            rate = self.learning_rate * group["rate"]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the training loss of a batch, a scalar, and add it to the sums of the epoch."""
        penalty: Tensor | float = 0.0
        with self.autocast():
            if self.similarity is None:
                logits = self.network(images)
            else:
                logits, penalty = self.similarity(self.network, images, labels)
            loss = F.cross_entropy(
                logits, labels, weight=self.class_weights, label_smoothing=self.recipe.label_smoothing
            )
        self.train_sums = _add(self.train_sums, loss.detach(), logits.detach(), labels)
        return loss + self.recipe.regularizer * penalty

    def autocast(self) -> torch.autocast:
        """Return a context for one forward pass, without its backward pass: it caches the weights that it casts."""
        use_cache = not self.cuda_graphs  # a captured step must not keep cast weights
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=use_cache)

    @property
    def evaluated_network(self) -> nn.Module:
        """Network that is validated: with the average of the weights if the recipe has one."""
        return self.network if self.average is None else self.average.module

    def validation_step(self, batch: Batch, _: int) -> None:
        validate_on: Step = self.graphs.get("validation", self.validate_on)
        validate_on(*batch)

    def validate_on(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch to the sums of the validation."""
        with self.autocast():
            logits = self.evaluated_network(images)
            loss = F.cross_entropy(logits, labels)
        self.validation_sums = _add(self.validation_sums, loss, logits, labels)
        self.validation_classes = _add_by_class(self.validation_classes, logits, labels)

    def on_train_epoch_end(self) -> None:
        # Lightning validates before it calls this method: both sums are complete
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
            self.best_weights = copy.deepcopy(self.evaluated_network.state_dict())
        if self.after_epoch is not None:
            self.after_epoch(self)

    def checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """Return the state after the epochs in `history`; `identity`: see `Checkpoint`."""
        state = self.optimizers(use_pl_optimizer=False).state if self.recipe.momentum else {}
        momentum = {n: state[p]["momentum_buffer"] for n, p in self.network.named_parameters() if p in state}
        tensors = {"network": self.network.state_dict(), "momentum": momentum, "best": self.best_weights or {}}
        if self.average is not None:
            tensors["average"] = self.average.state_dict()
        return Checkpoint(identity, tuple(self.history), tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint, before the training begins."""
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
    """Add a batch to the sums (loss, incorrect predictions, images), on the device; in place after the first batch."""
    wrong = (logits.argmax(dim=1) != labels).sum().float()
    # full_like fills on the device; torch.tensor would copy from the host and wait
    batch = torch.stack([loss.float() * len(labels), wrong, torch.full_like(wrong, len(labels))])
    return batch if sums is None else sums.add_(batch)


def _means(sums: Tensor | None) -> tuple[float, float]:
    """Return (mean loss, share of misclassified images)."""
    assert sums is not None
    loss, wrong, images = sums.tolist()
    return loss / images, wrong / images


def _add_by_class(counts: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
    """Add a batch to the counts (incorrect predictions, images) of each class, (2, n_classes), on the device."""
    wrong = (logits.argmax(dim=1) != labels).float()
    batch = torch.zeros(2, logits.shape[1], device=labels.device)
    batch.index_add_(1, labels, torch.stack([wrong, torch.ones_like(wrong)]))
    return batch if counts is None else counts.add_(batch)


def _macro_error(counts: Tensor | None) -> float:
    """Return the mean, over classes with images, of the share of a class's images that are misclassified."""
    assert counts is not None
    wrong, images = counts[:, counts[1] > 0].double()
    return float((wrong / images).mean())
