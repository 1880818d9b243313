"""Networks of a search space with their initial weights."""

from __future__ import annotations

import torch
from torch import nn

from nasx.networks.backbone import unfreeze
from nasx.protocols import SearchSpace
from nasx.trial import Genotype


def build_untrained(
    space: SearchSpace,
    genotype: Genotype,
    *,
    input_shape: tuple[int, int, int],
    n_classes: int,
    seed: int = 0,
    n_unfrozen: int = 0,
) -> nn.Sequential:
    """Return a network with initial weights from a seed, on the CPU; torch's generator is not advanced.

    Args:
        space: search space.
        genotype: of the network.
        input_shape: of an image, (channels, height, width).
        n_classes: number of classes.
        seed: of the initial weights.
        n_unfrozen: last stages of a backbone that are trained, too.

    Raises:
        ArchitectureError: if the network is disconnected.
        SettingError: if the network has no backbone with so many stages.
    """
    with torch.random.fork_rng(devices=[]):  # initialization draws from torch's global generator
        torch.manual_seed(seed)
        network = space.build(genotype, input_shape=input_shape, n_classes=n_classes)
    unfreeze(network, n_unfrozen)
    return network
