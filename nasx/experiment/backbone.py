"""The backbone of an experiment's space: normalization of the images, source of their features."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nasx.protocols import HasBackbone
from nasx.runs.stored_run import ReadOptions

if TYPE_CHECKING:
    from nasx.data.dataset import SearchData
    from nasx.data.digest import Content


def with_features(
    data: SearchData, space: HasBackbone, *, dataset: str, cache: str | None, device: str, options: ReadOptions
) -> SearchData:
    """Return the data with the normalization of a space's backbone, and a source of its features.

    Args:
        data: training and held-out images.
        space: with a backbone.
        dataset: name, for people.
        cache: directory of the dataset's cache; None: the user's.
        device: setting of the execution on which features are computed: "auto", "cpu" or "cuda".
        options: receive progress and notices.
    """
    from nasx.backbones.extraction import input_scale  # torch takes seconds to load
    from nasx.backbones.features import BackboneFeatures
    from nasx.backbones.store_folder import feature_folder
    from nasx.data.files import expand
    from nasx.evaluation.train_and_score import resolve_device

    mean, std = input_scale(space.pretrained().preprocessing, data.shape[0])
    features = BackboneFeatures(
        space,
        feature_folder(expand(cache) if cache else None),
        dataset,
        resolve_device(device).type,
        options.watch_features,
        options.notify,
    )
    return replace(data, mean=mean, std=std, features=features)


def backbone_content(space: HasBackbone) -> dict[str, Content]:
    """Return the content of the weights of a space's backbone, as a part of the data."""
    from nasx.data.digest import BACKBONE, Content  # numpy takes time to load

    pretrained = space.pretrained()
    return {BACKBONE: Content(pretrained.digest, {"name": pretrained.name, "weights": pretrained.n_weights})}
