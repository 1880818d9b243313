"""Search space of plain convolutional chains: depth, kernel and width of each layer, one activation for all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator

from nasx.config.settings import checked
from nasx.errors import ArchitectureError, SettingError, did_you_mean
from nasx.spaces.choices import Choices, Size
from nasx.trial import Genotype

if TYPE_CHECKING:
    from torch import nn

_LAYER = re.compile(r"(\d+)x\1:(\d+)")  # kernel and width, as 3x3:16


def _odd(kernels: tuple[int, ...]) -> tuple[int, ...]:
    if even := [kernel for kernel in kernels if kernel % 2 == 0]:
        raise ValueError(f"must be odd, so that they have a center, got {even[0]}")
    return kernels


class Chain:
    """Search space of chains of convolutions. Genes: depth, activation, then kernel and width of each layer.

    Genes of layers beyond the depth have no effect; in the canonical form they are 0.
    """

    name: ClassVar[str] = "chain"

    @checked
    def __init__(
        self,
        *,
        max_depth: Size = 6,
        kernels: Annotated[Choices[Size], AfterValidator(_odd)] = (1, 3, 5, 7),
        widths: Choices[Size] = (8, 16, 32, 64),
        activations: Choices[str] = ("relu", "gelu", "silu", "tanh"),
        channels: Size = 16,
    ) -> None:
        """Store the choices.

        Args:
            max_depth: maximum number of layers.
            kernels: sizes of kernels, pixels per side, odd.
            widths: channels that a layer may have.
            activations: names in `nasx.networks.chain.ACTIVATIONS`; one is used in all layers.
            channels: channels of the stem.
        """
        from nasx.networks.chain import ACTIVATIONS  # torch takes seconds to load

        if unknown := [word for word in activations if word not in ACTIVATIONS]:
            hint = did_you_mean(unknown[0], ACTIVATIONS)
            raise SettingError("activations", f"must be known activations, got {unknown[0]!r}. {hint}")
        self.max_depth = max_depth
        self.kernels = kernels
        self.widths = widths
        self.activations = activations
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
        """Return the genotype with the genes of absent layers set to 0."""
        used = 2 + 2 * (genotype[0] + 1)
        return (*genotype[:used], *(0,) * (len(genotype) - used))

    def is_connected(self, genotype: Genotype) -> bool:
        return True

    def layers(self, genotype: Genotype) -> list[tuple[int, int]]:
        """Return (kernel, width) of each layer, starting at the input."""
        genes = genotype[2 : 2 + 2 * (genotype[0] + 1)]
        return [(self.kernels[k], self.widths[w]) for k, w in zip(genes[::2], genes[1::2], strict=True)]

    def describe(self, genotype: Genotype) -> str:
        """Return activation and layers in words.

        >>> Chain().describe((1, 0, 1, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0))
        'relu 3x3:16 5x5:64'
        """
        layers = (f"{kernel}x{kernel}:{width}" for kernel, width in self.layers(genotype))
        return " ".join((self.activations[genotype[1]], *layers))

    def parse(self, text: str) -> Genotype:
        words = text.split()
        if not 2 <= len(words) <= 1 + self.max_depth:
            raise ArchitectureError(
                f"expected an activation and 1 to {self.max_depth} layers, e.g. 'relu 3x3:16', got {text!r}."
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
        for part, value, known in (("kernel", kernel, self.kernels), ("width", width, self.widths)):
            if value not in known:
                raise ArchitectureError(
                    f"layer {number}: {part} must be one of {', '.join(map(str, known))}, got {value}."
                )
        return self.kernels.index(kernel), self.widths.index(width)

    def build(self, genotype: Genotype, *, input_shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
        from nasx.networks.chain import Layer, chain_network  # torch takes seconds to load

        layers: Sequence[Layer] = [Layer(*layer) for layer in self.layers(genotype)]
        activation = self.activations[genotype[1]]
        return chain_network(layers, activation, channels=self.channels, input_shape=input_shape, n_classes=n_classes)
