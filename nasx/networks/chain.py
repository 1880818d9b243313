"""A plain convolutional network: layers in a row, and a head that pools and classifies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from torch import nn

from nasx.networks.skeletons import classifier, stem, stem_halvings

SMALLEST_SIDE: Final = 4  # pixels: smaller maps are not halved any further

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Layer(NamedTuple):
    """One layer of a chain."""

    kernel: int  # pixels a side, odd
    width: int  # channels


def chain_network(
    layers: Sequence[Layer], activation: str, *, channels: int, input_shape: tuple[int, int, int], n_classes: int
) -> nn.Sequential:
    """Children `stem`, `layer1`, `layer2`, ..., `head`; each layer is convolution, batch norm and activation.

    Images (n, *input_shape) become logits (n, n_classes). `channels` are those of the stem. A layer halves the
    resolution as long as at least four pixels a side remain, so that 32 pixels become 16, 8, 4, 4, ...
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
