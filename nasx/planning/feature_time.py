"""Cost of the features of a backbone: counted for a choice of the image size, measured for an estimate of time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from nasx.backbones.pretrained import Pretrained
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.data.features import Features
from nasx.experiment import Experiment
from nasx.protocols import HasBackbone

if TYPE_CHECKING:
    pass

MAX_BYTES: Final = 2**28  # of stand-ins for features
DISTINCT: Final = 64  # of them


@dataclass(frozen=True)
class FeatureCost:
    """Features that a search computes before its first training."""

    n_images: int = 0  # with augmented ones, without those in the cache
    seconds: float = 0.0


NO_FEATURES: Final = FeatureCost()


@cache
def backbone_macs(pretrained: Pretrained, size: int) -> int:
    """Return the MACs of a backbone for one image of size x size pixels."""
    from nasx.networks.costs import count_macs  # torch takes seconds to load

    return count_macs(pretrained.stages, (3, size, size))


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
