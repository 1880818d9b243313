"""Plain convolutional network: a chain of layers, and a head that pools and classifies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from torch import nn

from nasx.networks.skeletons import classifier, stem, stem_halvings

SMALLEST_SIDE: Final = 4  # pixels: feature maps are not halved below this side

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Layer(NamedTuple):
    """Layer of a chain."""

    kernel: int  # pixels per side, odd
    width: int  # channels


def chain_network(
    layers: Sequence[Layer], activation: str, *, channels: int, input_shape: tuple[int, int, int], n_classes: int
) -> nn.Sequential:
    """Return a network with the children `stem`, `layer1`, `layer2`, ..., `head`: (n, *input_shape) -> (n, n_classes).

    Each layer is convolution, batch norm and activation. It halves the resolution as long as at least four pixels per
    side remain: 32 pixels become 16, 8, 4, 4, ...

    Args:
        layers: kernel and width of each layer.
        activation: name in `ACTIVATIONS`, used in all layers.
        channels: channels of the stem.
        input_shape: (channels, height, width) of the images.
        n_classes: number of logits.
    """
    make = ACTIVATIONS[activation]
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = nn.Sequential(stem(input_shape, channels), make())
    _, height, width = input_shape
    side, c_in = min(height, width), channels
    for _ in range(stem_halvings(height, width)):
        side = -(-side // 2)
    for number, layer in enumerate(layers, start=1):
        stride = 2 if side >= 2 * SMALLEST_SIDE else 1
        side = -(-side // stride)
        conv = nn.Conv2d(c_in, layer.width, layer.kernel, stride=stride, padding=layer.kernel // 2, bias=False)
        stages[f"layer{number}"] = nn.Sequential(conv, nn.BatchNorm2d(layer.width), make())
        c_in = layer.width
    stages["head"] = nn.Sequential(*classifier(c_in, n_classes))
    return nn.Sequential(stages)
