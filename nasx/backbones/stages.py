"""Stages of a pretrained network up to a cut, and the shapes of their feature maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import nn

from nasx.backbones.pretrained import Pretrained
from nasx.data.dataset import IMAGE_SIZES
from nasx.errors import NasxError, SettingError
from nasx.networks.backbone import GrayToColor

Shape: TypeAlias = tuple[int, int, int]  # (channels, height, width)
Maps: TypeAlias = Mapping[str, Shape]  # shape of the feature maps after each stage
SIDES: Final = 32  # pixels; larger pictures are suggested in multiples
SMALLEST_MAP: Final = 2  # pixels per side of the feature maps: on fewer, cells and poolings have nothing to choose
GRAY: Final = "gray_to_color"  # name of the stage in front of the others, for gray images
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


def check_cut(pretrained: Pretrained, cut: str, input_shape: Shape) -> Shape:
    """Return the shape of the feature maps at a cut.

    Args:
        pretrained: the backbone.
        cut: name of a stage.
        input_shape: of the images.

    Raises:
        SettingError: if the feature maps are too small, or if the backbone reads only images of another size.
    """
    maps = measure(pretrained, input_shape)
    if cut in maps and _is_large(maps[cut]):
        return maps[cut]
    sides = (side for side in range(SIDES, IMAGE_SIZES[1] + 1, SIDES) if side > input_shape[1])
    least = next((s for s in sides if _is_large(measure(pretrained, (3, s, s)).get(cut))), None)
    raise SettingError("space.cuts", _too_small(cut, maps, input_shape, least))


def _is_large(maps: Shape | None) -> bool:
    """Return whether feature maps of a shape are large enough; None: there are none."""
    return maps is not None and min(maps[1:]) >= SMALLEST_MAP


def _too_small(cut: str, maps: Maps, input_shape: Shape, least: int | None) -> str:
    """Return what is wrong if the feature maps at a cut are too small, and what to do.

    Args:
        cut: name of the stage.
        maps: shapes of the maps after the stages, as far as there are any.
        input_shape: of the pictures.
        least: side of pictures that are large enough; None: there is none.
    """
    pictures = f"pictures of {input_shape[1]} x {input_shape[2]}"
    problem = f"{pictures} are too small for {cut}"
    if cut in maps:
        problem = f"after {cut}, {pictures} are {maps[cut][1]} x {maps[cut][2]}"
    larger = [f"use larger pictures (dataset.image_size={least})"] if least else []
    deepest = [name for name, shape in maps.items() if _is_large(shape)]
    earlier = [f"cut earlier: space.cuts=[{deepest[-1]}]"] if deepest else []
    advice = " or ".join(larger + earlier) or "use another backbone"
    return f"must leave feature maps of at least {SMALLEST_MAP} x {SMALLEST_MAP} pixels: {problem}; {advice}"
