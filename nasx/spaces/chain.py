"""Plain convolutional chains: how many layers, the kernel and the width of each, and one activation for all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nasx.errors import ArchitectureError, SettingError, did_you_mean
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

_LAYER = re.compile(r"(\d+)x\1:(\d+)")  # kernel and width, as 3x3:16


class Chain:
    """Chains of convolutions. Genes: the depth, the activation, then kernel and width layer by layer.

    Genes of layers beyond the depth mean nothing; in the canonical form they are 0.
    """

    name: ClassVar[str] = "chain"

    def __init__(
        self,
        *,
        max_depth: int = 6,
        kernels: tuple[int, ...] = (1, 3, 5, 7),
        widths: tuple[int, ...] = (8, 16, 32, 64),
        activations: tuple[str, ...] = ("relu", "gelu", "silu", "tanh"),
        channels: int = 16,
    ) -> None:
        """`max_depth`: layers at most. `kernels`: pixels a side. `widths`: channels. `channels`: of the stem."""
        from nasx.networks.chain import ACTIVATIONS

        if max_depth < 1:
            raise SettingError("max_depth", f"must be at least 1, got {max_depth}")
        if channels < 1:
            raise SettingError("channels", f"must be at least 1, got {channels}")
        for name, values in (("kernels", kernels), ("widths", widths)):
            if not values or len(set(values)) < len(values) or min(values) < 1:
                raise SettingError(name, f"must be different numbers, each at least 1, got {list(values)}")
        if even := [kernel for kernel in kernels if kernel % 2 == 0]:
            raise SettingError("kernels", f"must be odd, so that they have a centre, got {even[0]}")
        if not activations or len(set(activations)) < len(activations):
            raise SettingError("activations", f"must name different ones, got {list(activations)}")
        if unknown := [word for word in activations if word not in ACTIVATIONS]:
            raise SettingError(
                "activations", f"must be known, got {unknown[0]!r}. {did_you_mean(unknown[0], ACTIVATIONS)}"
            )
        self.max_depth = max_depth
        self.kernels = tuple(kernels)
        self.widths = tuple(widths)
        self.activations = tuple(activations)
        self.channels = channels

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        return (self.max_depth, len(self.activations), *(len(self.kernels), len(self.widths)) * self.max_depth)

    @property
    def gene_names(self) -> tuple[str, ...]:
        layers = range(1, self.max_depth + 1)
        return ("depth", "activation", *(f"{gene} of layer {i}" for i in layers for gene in ("kernel", "width")))

    def allele_names(self, gene: int) -> tuple[str, ...]:
        if gene == 0:
            return tuple(str(depth) for depth in range(1, self.max_depth + 1))
        if gene == 1:
            return self.activations
        return tuple(f"{k}x{k}" for k in self.kernels) if gene % 2 == 0 else tuple(map(str, self.widths))

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "max_depth": self.max_depth,
            "kernels": list(self.kernels),
            "widths": list(self.widths),
            "activations": list(self.activations),
            "channels": self.channels,
        }

    def canonical(self, genotype: Genotype) -> Genotype:
        """The genotype with the genes of absent layers put to 0."""
        used = 2 + 2 * (genotype[0] + 1)
        return (*genotype[:used], *(0,) * (len(genotype) - used))

    def is_connected(self, genotype: Genotype) -> bool:
        return True

    def layers(self, genotype: Genotype) -> list[tuple[int, int]]:
        """(kernel, width) of each layer, from the input on."""
        genes = genotype[2 : 2 + 2 * (genotype[0] + 1)]
        return [(self.kernels[k], self.widths[w]) for k, w in zip(genes[::2], genes[1::2], strict=True)]

    def describe(self, genotype: Genotype) -> str:
        """Activation and layers in words.

        >>> Chain().describe((1, 0, 1, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0))
        'relu 3x3:16 5x5:64'
        """
        layers = (f"{kernel}x{kernel}:{width}" for kernel, width in self.layers(genotype))
        return " ".join((self.activations[genotype[1]], *layers))

    def parse(self, text: str) -> Genotype:
        words = text.split()
        if not 2 <= len(words) <= 1 + self.max_depth:
            raise ArchitectureError(
                f"an architecture is an activation and 1 to {self.max_depth} layers, e.g. 'relu 3x3:16', got {text!r}."
            )
        activation, *layers = words
        if activation not in self.activations:
            raise ArchitectureError(f"unknown activation {activation!r}. {did_you_mean(activation, self.activations)}")
        genes = [gene for number, word in enumerate(layers, start=1) for gene in self._layer_genes(number, word)]
        absent = 2 * (self.max_depth - len(layers))
        return (len(layers) - 1, self.activations.index(activation), *genes, *(0,) * absent)

    def _layer_genes(self, number: int, word: str) -> tuple[int, int]:
        match = _LAYER.fullmatch(word)
        if match is None:
            raise ArchitectureError(f"layer {number} must be written as kernel and width, e.g. 3x3:16, got {word!r}.")
        kernel, width = (int(digits) for digits in match.groups())
        for what, value, known in (("kernel", kernel, self.kernels), ("width", width, self.widths)):
            if value not in known:
                raise ArchitectureError(f"layer {number}: {what} {value} is none of {', '.join(map(str, known))}.")
        return self.kernels.index(kernel), self.widths.index(width)

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        from nasx.networks.chain import Layer, chain_network  # here: who only reads genotypes need not load torch

        layers: Sequence[Layer] = [Layer(*layer) for layer in self.layers(genotype)]
        activation = self.activations[genotype[1]]
        return chain_network(layers, activation, channels=self.channels, input_shape=input_shape, n_classes=n_classes)
