"""Cost of the features of a backbone: counted for a choice of the image size, measured for an estimate of time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from nasx.backbones.pretrained import Pretrained
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.data.features import Features
from nasx.errors import SettingError
from nasx.experiment import Experiment
from nasx.planning.rules import BACKBONE_SIZES
from nasx.protocols import HasBackbone

MAX_BYTES: Final = 2**28  # of stand-ins for features
DISTINCT: Final = 64  # of them


@dataclass(frozen=True)
class FeatureCost:
    """Features that a search computes before its first training."""

    n_images: int = 0  # with augmented ones, without those in the cache
    seconds: float = 0.0


NO_FEATURES: Final = FeatureCost()


@cache
def backbone_macs(pretrained: Pretrained) -> dict[int, int]:
    """Return the MACs of a backbone for one image, by the sizes that it reads, at most that of its pretraining.

    Raises:
        SettingError: if it reads only larger images than nasx.
    """
    from nasx.networks.costs import count_macs  # torch takes seconds to load

    own = pretrained.preprocessing.size
    found: dict[int, int] = {}
    for size in sorted({size for size in (*BACKBONE_SIZES, own) if size <= min(own, BACKBONE_SIZES[-1])}):
        with suppress(SettingError, RuntimeError):  # it reads images of one size only; a kernel is larger than its map
            found[size] = count_macs(pretrained.stages, (3, size, size))
    if not found:
        problem = (
            f"must read images of at most {BACKBONE_SIZES[-1]} pixels per side; {pretrained.name} reads larger ones"
        )
        raise SettingError("space.backbone", problem)
    return found


def measure_features(experiment: Experiment) -> FeatureCost:
    """Return what the features of an experiment cost; computes those of a few images, and stores none.

    Raises:
        SettingError: if the backbone cannot be used for these images.
    """
    if not isinstance(experiment.space, HasBackbone):
        return NO_FEATURES
    experiment.check_backbone()
    data, source = experiment.data, experiment.features
    views, augmentation = experiment.recipe.views, experiment.dataset.augmentation
    cuts = experiment.frozen_cuts
    missing = source.count_missing(data.train, cuts, views=views, augmentation=augmentation)
    missing += source.count_missing(data.validation, cuts)
    return FeatureCost(missing, missing * source.seconds_per_image(data.train, cuts, augmentation) if missing else 0.0)


@dataclass(frozen=True)
class StandIns:
    """A `FeatureSource` of meaningless feature maps, with which a training takes as long as with the real ones."""

    space: HasBackbone

    def at(
        self, cut: str, images: LabeledImages, *, views: int = 1, augmentation: Augmentation | None = None
    ) -> Features:
        """Return maps of the shape that the backbone returns; see `nasx.data.features.FeatureSource`."""
        from nasx.backbones.stages import measure  # torch takes seconds to load

        shape = measure(self.space.pretrained(), images.shape)[cut]
        n = views * len(images)
        n_rows = max(1, min(n, MAX_BYTES // (2 * int(np.prod(shape)))))
        some = np.random.default_rng(0).random((min(n_rows, DISTINCT), *shape), dtype=np.float32)
        return Features(
            images=np.resize(some.astype(np.float16), (n_rows, *shape)),
            labels=images.labels,
            class_names=images.class_names,
            files=images.files,
            indices=images.indices,
            rows=(np.arange(n) % n_rows).reshape(views, len(images)),
        )
