"""Stages of a pretrained network up to a cut, and the shapes of their feature maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import nn

from nasx.backbones.pretrained import Pretrained
from nasx.networks.backbone import GrayToColor

Shape: TypeAlias = tuple[int, int, int]  # (channels, height, width)
Maps: TypeAlias = Mapping[str, Shape]  # shape of the feature maps after each stage
GRAY = "gray_to_color"  # name of the stage in front of the others, for gray images
_measured: dict[tuple[str, Shape], Maps] = {}


def cut_stages(pretrained: Pretrained, cut: str, channels: int) -> nn.Sequential:
    """Return the stages up to and including `cut`, the same modules; for gray images (1 channel) one more before them.

    Args:
        pretrained: the backbone.
        cut: name of its last stage.
        channels: of the images, 1 or 3.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    if channels == 1:
        stages[GRAY] = GrayToColor(pretrained.preprocessing.mean, pretrained.preprocessing.std)
    for name, stage in pretrained.stages.named_children():
        stages[name] = stage
        if name == cut:
            break
    return nn.Sequential(stages)


def measure(pretrained: Pretrained, input_shape: Shape) -> Maps:
    """Return the shapes of the feature maps after each stage, for one image of a shape.

    Without the stages for which the image is too small. Raises RuntimeError if it is for all.
    """
    key = (pretrained.digest, input_shape)
    if key not in _measured:
        found: dict[str, Shape] = {}
        with torch.no_grad():
            maps = torch.zeros(1, 3, *input_shape[1:])
            for name, stage in pretrained.stages.named_children():
                try:
                    maps = stage(maps)
                except RuntimeError:  # e.g. a kernel is larger than its input
                    if not found:
                        raise
                    break
                found[name] = (maps.shape[1], maps.shape[2], maps.shape[3])
        _measured[key] = found
    return _measured[key]
