"""Stages of a pretrained network up to a cut, and the shapes of their feature maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import nn

from nasx.backbones.pretrained import Pretrained
from nasx.errors import NasxError
from nasx.networks.backbone import GrayToColor

Shape: TypeAlias = tuple[int, int, int]  # (channels, height, width)
Maps: TypeAlias = Mapping[str, Shape]  # shape of the feature maps after each stage
GRAY = "gray_to_color"  # name of the stage in front of the others, for gray images
_measured: WeakKeyDictionary[Pretrained, dict[Shape, Maps]] = WeakKeyDictionary()


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
    """Return the shapes of the feature maps after each stage, without the stages for which the images are too small.

    Args:
        pretrained: the backbone.
        input_shape: of the images.

    Raises:
        SettingError: if the backbone reads only images of another size.
    """
    known = _measured.setdefault(pretrained, {})
    if input_shape not in known:
        with torch.no_grad():
            known[input_shape] = dict(_shapes(pretrained.stages, torch.zeros(1, 3, *input_shape[1:])))
    return known[input_shape]


def _shapes(stages: nn.Sequential, maps: torch.Tensor) -> Iterator[tuple[str, Shape]]:
    for name, stage in stages.named_children():
        try:
            maps = stage(maps)
        except NasxError:
            raise
        except Exception:  # a kernel is larger than its input; the code of a user may raise anything
            return
        yield name, (maps.shape[1], maps.shape[2], maps.shape[3])
