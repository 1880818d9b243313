"""The pretrained part of a network: its stages, frozen except the last ones, and the part that is trained on top."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Self

import torch
from torch import Tensor, nn

from nasx.errors import SettingError

BACKBONE: Final = "backbone"  # name of the stage
CPU_BATCH: Final = 16  # images in a pass through a backbone
GPU_BATCH: Final = 256


class Backbone(nn.Module):
    """Pretrained stages: normalized images (n, channels, height, width) to feature maps (n, c, h, w).

    Always in evaluation mode: the statistics of batch norm and the behavior of dropout stay those of the pretraining.
    """

    def __init__(self, stages: nn.Sequential, n_trained: int = 0, digest: str = "") -> None:
        """Freeze the stages.

        Args:
            stages: named stages, in order.
            n_trained: number of last stages that are trained.
            digest: of all weights of the pretrained network; "": unknown.
        """
        super().__init__()
        self.stages = stages
        self.digest = digest
        self.n_trained = 0
        self.set_trained(n_trained)

    def set_trained(self, n_trained: int) -> None:
        """Train the last `n_trained` stages, and freeze the others."""
        self.n_trained = n_trained
        self.eval()
        self.stages.requires_grad_(False)
        for stage in list(self.stages)[len(self.stages) - n_trained :]:
            stage.requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        # A pass without gradients needs memory for one part of a batch only, and its maps fit into the cache
        size = CPU_BATCH if x.device.type == "cpu" else GPU_BATCH
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not len(self.stages) or len(x) <= size:
            return self._maps(x)
        parts = (part.contiguous(memory_format=torch.channels_last) for part in torch.split(x, size))
        return torch.cat([self._maps(part) for part in parts])

    def _maps(self, x: Tensor) -> Tensor:
        maps: Tensor
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            maps = self.stages(x)
            return maps
        # bfloat16 is slower on CPUs: gradients of depthwise 5x5 convolutions take four times as long
        with torch.autocast("cpu", enabled=False):
            maps = self.stages(x.float())
        return maps

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    @property
    def cut(self) -> str | None:
        """Name of the last frozen stage, whose feature maps can be cached; None: all stages are trained."""
        names = [name for name, _ in self.stages.named_children()]
        frozen = names[: len(names) - self.n_trained]
        return frozen[-1] if frozen else None

    def trained_part(self) -> Backbone:
        """Return the stages that are trained, the same modules: feature maps at `cut` to feature maps."""
        stages = OrderedDict(list(self.stages.named_children())[len(self.stages) - self.n_trained :])
        return Backbone(nn.Sequential(stages), self.n_trained, self.digest)


class GrayToColor(nn.Module):
    """Normalized gray images (n, 1, height, width) to color images in the normalization of the pretraining."""

    scale: Tensor  # (3, 1, 1)
    shift: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """Store the conversion. The gray images are normalized by `gray_scale` of the same numbers.

        Args:
            mean: of red, green, blue.
            std: of red, green, blue.
        """
        super().__init__()
        (gray_mean,), (gray_std,) = gray_scale(mean, std)
        stds = torch.tensor(std)
        self.register_buffer("scale", (gray_std / stds).view(3, 1, 1))
        self.register_buffer("shift", ((gray_mean - torch.tensor(mean)) / stds).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def gray_scale(mean: tuple[float, float, float], std: tuple[float, float, float]) -> tuple[tuple[float], tuple[float]]:
    """Return the mean and the standard deviation by which gray images are normalized for a backbone.

    >>> gray_scale((0.25, 0.5, 0.75), (0.25, 0.25, 0.25))
    ((0.5,), (0.25,))
    """
    return (sum(mean) / 3,), (sum(std) / 3,)


def backbone_of(network: nn.Module) -> Backbone | None:
    """Return the backbone of a network; None: it has none."""
    found = getattr(network, BACKBONE, None)
    return found if isinstance(found, Backbone) else None


def unfreeze(network: nn.Sequential, n_stages: int) -> None:
    """Train the last stages of a network's backbone, too.

    Args:
        network: any network; without a backbone, only 0 stages are allowed.
        n_stages: number of stages, 0: the backbone is frozen.

    Raises:
        SettingError: if there are not so many stages before the first one.
    """
    backbone = backbone_of(network)
    if backbone is None:
        if n_stages:
            raise SettingError("training.unfreeze", f"needs a space with a backbone, got {n_stages}; set it to 0")
        return
    names = [name for name, stage in backbone.stages.named_children() if not isinstance(stage, GrayToColor)]
    if n_stages > (most := len(names) - 1):
        raise SettingError(
            "training.unfreeze", f"must be at most {most} for the stages {', '.join(names)}, got {n_stages}"
        )
    backbone.set_trained(n_stages)


def trained_part(network: nn.Sequential) -> nn.Sequential:
    """Return the part of a network behind its frozen stages, with the same names and modules; often all of it.

    Its first stage `backbone` maps feature maps to themselves, or through the stages that are trained.
    """
    backbone = backbone_of(network)
    if backbone is None or backbone.cut is None:
        return network
    parts = OrderedDict(network.named_children())
    parts[BACKBONE] = backbone.trained_part()
    return nn.Sequential(parts)


def frozen_cuts(stages: Sequence[str], cuts: Sequence[str], n_trained: int) -> tuple[str, ...]:
    """Return the names of the last frozen stages of a backbone that is cut after some stages.

    >>> frozen_cuts(["a", "b", "c", "d"], ["c", "d"], n_trained=1)
    ('b', 'c')

    Args:
        stages: names of all stages, in order.
        cuts: names of stages after which the backbone is cut.
        n_trained: number of stages in front of a cut that are trained.
    """
    return tuple(stages[stages.index(cut) - n_trained] for cut in cuts if stages.index(cut) >= n_trained)


def frozen_names(network: nn.Module) -> set[str]:
    """Return the names of the tensors of frozen stages, which are those of the pretrained network."""
    backbone = backbone_of(network)
    if backbone is None:
        return set()
    n_frozen = len(backbone.stages) - backbone.n_trained
    frozen = tuple(f"{BACKBONE}.stages.{name}." for name, _ in list(backbone.stages.named_children())[:n_frozen])
    return {name for name in network.state_dict() if name.startswith(frozen)}


def backbone_names(network: nn.Module) -> set[str]:
    """Return the names of all tensors of the backbone."""
    return set() if backbone_of(network) is None else {n for n in network.state_dict() if n.startswith(f"{BACKBONE}.")}
