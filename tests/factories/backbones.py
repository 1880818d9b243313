"""A backbone of three small stages, a space with it, and a counter of the images that it sees."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nasx.backbones.features import BackboneFeatures
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages

CUTS = ("first", "second", "third")
FLIPS = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.0)


def tiny_backbone(seed: int = 0, activation: type[nn.Module] = nn.ReLU, **preprocessing) -> Pretrained:
    """Return three convolutions of 4, 6 and 8 channels, each at half the resolution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = (3, 4, 6, 8)
        stages = OrderedDict(
            (name, nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1), activation()))
            for i, name in enumerate(CUTS)
        )
    return Pretrained(
        name="tiny",
        stages=nn.Sequential(stages).eval().requires_grad_(False),
        preprocessing=Preprocessing(**preprocessing),
        source="a test",
        license="none",
        data="none",
    )


@dataclass
class TinySpace:
    """Has a backbone; `seed` stands for its weights file."""

    seed: int = 0
    cuts: tuple[str, ...] = CUTS
    backbone: Pretrained | None = None

    def pretrained(self) -> Pretrained:
        if self.backbone is None:
            self.backbone = tiny_backbone(self.seed)
        return self.backbone

    def __reduce__(self):
        return TinySpace, (self.seed, self.cuts)


@dataclass
class Cache:
    """Cache directory of a test: `source` reads it, `computed` counts the images whose maps were computed."""

    folder: Path
    computed: int = 0
    notices: list[str] = field(default_factory=list)

    def source(self, space: TinySpace | None = None, **settings) -> BackboneFeatures:
        return BackboneFeatures(
            space or TinySpace(),
            self.folder,
            **{"dataset": "photos", "watch": self._watch, "notify": self.notices.append, **settings},
        )

    def _watch(self, done: int, total: int) -> None:
        if done == total:
            self.computed += total

    def newly_computed(self, *args, source: BackboneFeatures | None = None, **kwargs) -> int:
        """Return the number of images that are computed for features at a cut; see `BackboneFeatures.at`."""
        before = self.computed
        (source or self.source()).at(*args, **kwargs)
        return self.computed - before


def pictures(n: int = 20, channels: int = 3, side: int = 16, seed: int = 0) -> LabeledImages:
    """Return random pictures of two classes; the first ones are the same for any `n`."""
    pixels = [np.random.default_rng([seed, i]).integers(0, 256, (channels, side, side), np.uint8) for i in range(n)]
    return LabeledImages(np.stack(pixels), np.arange(n) % 2, ("a", "b"))


def maps(features, view: int = 0) -> np.ndarray:
    """Return the feature maps of one view in the order of the images."""
    return np.asarray(features.images[features.rows[view]])
