"""Training as in Lightning's documentation, in float32 with a DataLoader: the peer on a GPU."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import SearchData
from nasx.training.recipe import Recipe, learning_rate_factor
from scripts.bench.plain_training import AugmentedImages, Batch, tensors


class PlainModule(pl.LightningModule):  # type: ignore[misc]
    """Network, loss and optimizer."""

    def __init__(self, network: nn.Module, recipe: Recipe, steps: int) -> None:
        """
        Args:
            network: to be trained.
            recipe: optimizer and schedule.
            steps: of the whole training.
        """
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.steps = steps
        self.ends: list[float] = []  # of epochs, wall clock

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        warm_up = recipe.warmup_epochs * self.steps / recipe.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.steps, warm_up)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_end(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def lightning_rate(
    network: nn.Module, data: SearchData, recipe: Recipe, augmentation: Augmentation, device: str, workers: int
) -> float:
    """Return the images per second in the second of two epochs; the first includes the start of the workers.

    Args:
        network: trained in place.
        data: its training images.
        recipe: optimizer, schedule and batch size.
        augmentation: applied to each image.
        device: "cuda" or "cpu".
        workers: processes of the DataLoader.
    """
    recipe = replace(recipe, epochs=2)
    images = AugmentedImages(*tensors(data.train, data), augmentation, seed=0)
    loader = DataLoader(
        images,
        recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device == "cuda",
        persistent_workers=workers > 0,
    )
    module = PlainModule(network, recipe, steps=recipe.epochs * len(loader))
    accelerator = "gpu" if device == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:  # for its checkpoints
        trainer = pl.Trainer(
            max_epochs=recipe.epochs, accelerator=accelerator, devices=1, logger=False, default_root_dir=folder
        )
        trainer.fit(module, loader)
    return len(images) / (module.ends[1] - module.ends[0])
