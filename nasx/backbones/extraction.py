"""Feature maps of images: one pass of a batch through the stages of a backbone.

Feature maps are computed in float32, with deterministic algorithms: by ONNX Runtime on CPUs if it is installed and can
run the backbone, else by torch. The numbers of a map depend only on its image and the kind of device, not on the other
images of its batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nasx.backbones.onnx_stages import MapsAt, NoGraphError, maps_at, open_stages, uses_onnx
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.backbones.stages import cut_stages
from nasx.backbones.store_folder import Notify, record_backbone, use_store
from nasx.data.augmentation import Augmentation, augment
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages
from nasx.errors import DataError
from nasx.introspection.layers import evaluation_mode
from nasx.networks.backbone import CPU_BATCH, GPU_BATCH, gray_scale

View = tuple[bytes, int]  # (digest, position): images follow each other in the first view, then in the second, ...
_without_graph: WeakSet[Pretrained] = WeakSet()  # backbones that ONNX Runtime cannot run


class MapExtractor:
    """Computes the feature maps of views of images at some cuts."""

    def __init__(
        self,
        pretrained: Pretrained,
        images: LabeledImages,
        cuts: Sequence[str],
        *,
        augmentation: Augmentation | None,
        device: str,
        directory: Path,
        notify: Notify,
    ) -> None:
        """Prepare the stages.

        Args:
            pretrained: backbone.
            images: of which there are views.
            cuts: names of stages.
            augmentation: of all views but the first.
            device: on which the maps are computed.
            directory: of the feature store, which keeps the graph of the stages.
            notify: receives a line if the stages have no graph.
        """
        self.backbone = pretrained.name
        self.images = as_tensor(images.images)
        self.mean, self.std = input_scale(pretrained.preprocessing, images.shape[0])
        self.augmentation = augmentation
        self.device = torch.device(device)
        self.batch_size: Final = CPU_BATCH if self.device.type == "cpu" else GPU_BATCH
        self._use = use_store(directory)
        record_backbone(directory, pretrained.name, images.shape)
        self._maps_at = self._stages(pretrained, images.shape, cuts, directory, notify)

    def _stages(
        self,
        pretrained: Pretrained,
        shape: tuple[int, int, int],
        cuts: Sequence[str],
        directory: Path,
        notify: Notify,
    ) -> MapsAt:
        deepest = max(cuts, key=pretrained.stage_names.index)
        stages = copy.deepcopy(cut_stages(pretrained, deepest, shape[0]))
        if uses_onnx(pretrained, self.device.type) and pretrained not in _without_graph:
            try:
                return open_stages(stages, (self.batch_size, *shape), cuts, directory)
            except NoGraphError as reason:
                _without_graph.add(pretrained)  # writing the graph may take long: try once in a process
                notify(f"{pretrained.name} has no ONNX graph ({reason}): torch computes its features, more slowly.")
        stages = stages.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def by_torch(images: Tensor) -> dict[str, Tensor]:
            with evaluation_mode(stages):
                return maps_at(stages, images.contiguous(memory_format=torch.channels_last), cuts)

        return by_torch

    def maps(self, views: Sequence[View]) -> Iterator[tuple[dict[str, NDArray[np.float16]], int]]:
        """Yield the feature maps of views batch by batch, (n, channels, height, width) by cut, with n.

        Raises:
            DataError: if a map has numbers that float16 cannot represent.
        """
        for start in range(0, len(views), self.batch_size):
            part = views[start : start + self.batch_size]
            with torch.inference_mode():
                found = self._maps_at(self._batch(part).to(self.device))
            yield {cut: _as_float16(maps[: len(part)], self.backbone, cut) for cut, maps in found.items()}, len(part)

    def _batch(self, views: Sequence[View]) -> Tensor:
        """Return a normalized batch of views.

        It is filled with zeros: the algorithm of a convolution, and so its rounding, depends on the size.
        """
        n = len(self.images)
        pixels = self.images.index_select(0, torch.tensor([position % n for _, position in views]))
        batch = normalize(pixels, self.mean, self.std)
        for row, (key, position) in enumerate(views):
            if position >= n and self.augmentation is not None:
                generator = torch.Generator().manual_seed(int.from_bytes(key[:8]) >> 1)
                batch[row : row + 1] = augment(batch[row : row + 1], self.augmentation, generator)
        return F.pad(batch, (0, 0) * 3 + (0, self.batch_size - len(views)))


def input_scale(preprocessing: Preprocessing, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation, (channels,), by which images are normalized for a backbone."""
    mean, std = preprocessing.mean, preprocessing.std
    if channels == 1:
        return tuple(np.array(each, np.float32) for each in gray_scale(mean, std))  # type: ignore[return-value]
    return np.array(mean, np.float32), np.array(std, np.float32)


def _as_float16(maps: Tensor, backbone: str, cut: str) -> NDArray[np.float16]:
    found: NDArray[np.float16] = maps.half().cpu().contiguous().numpy()
    if not np.isfinite(found).all():
        raise DataError(
            f"the feature maps of {backbone} at {cut} have numbers above 65,504, or NaN, which cannot be stored: cut "
            "elsewhere (space.cuts), check its weights, or use another backbone."
        )
    return found
