"""Facts about the backbone of a network, for pages and model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasx.networks.backbone import backbone_of

if TYPE_CHECKING:
    from torch import nn

    from nasx.backbones.pretrained import Pretrained


def backbone_facts(pretrained: Pretrained, network: nn.Module) -> tuple[tuple[str, str], ...]:
    """Return name, source, license and data of a network's backbone, what of it is trained, and how many parameters.

    Args:
        pretrained: the backbone.
        network: with its last stages as trainable as they were in training.
    """
    backbone = backbone_of(network)
    if backbone is None:
        return ()
    names = [name for name, _ in backbone.stages.named_children()]
    trained = names[len(names) - backbone.n_trained :]
    state = f"{', '.join(trained)} trained further, the stages before frozen" if trained else "frozen"
    n_trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    weights = f"{pretrained.source}; license {pretrained.license}; trained on {pretrained.data}"
    return (
        ("backbone", f"{pretrained.name} up to {names[-1]}, {state}"),
        ("weights of the backbone", weights),
        ("trained parameters", f"{n_trained:,}"),
    )
