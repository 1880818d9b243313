"""Share of each edge of the cell in the logit of the predicted class (conductance)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nasx.introspection.layers import evaluation_mode
from nasx.networks.cell import Cell
from nasx.networks.edge import Edge

STEPS = 16  # on the line from a background image to an image
Place = tuple[str, Edge]  # a cell's module name, and an edge of it


def edge_shares(network: nn.Module, images: Tensor, background: Tensor, *, steps: int = STEPS) -> dict[Edge, float]:
    """The share of each edge of the cell in the mass of all edges, averaged over the network's cells; sums to 1.

    `images` and as many `background` images, (n, channels, height, width), in pairs. Empty where the network has no
    cells, or nothing reaches the logits through them. The network is left unchanged.
    """
    masses: dict[str, dict[Edge, float]] = defaultdict(lambda: defaultdict(float))
    for image, reference in zip(images, background, strict=True):
        for (cell, edge), parts in conductances(network, image, reference, steps=steps).items():
            masses[cell][edge] += float(parts.abs().sum())
    totals = {cell: sum(edges.values()) for cell, edges in masses.items()}
    counted = [cell for cell, total in totals.items() if total > 0]
    shares: dict[Edge, float] = defaultdict(float)
    for cell in counted:
        for edge, mass in masses[cell].items():
            shares[edge] += mass / totals[cell] / len(counted)
    return dict(shares)


def conductances(network: nn.Module, image: Tensor, reference: Tensor, *, steps: int) -> dict[Place, Tensor]:
    """Each edge's part of the logit gap between two images, (channels, height, width) each: per channel of the edge.

    The logit is that of the class that the image is taken for. The integral along the line is taken by the trapezoid
    rule over `steps` steps.
    """
    outputs: dict[Place, Tensor] = {}
    positions = torch.linspace(0, 1, steps + 1, device=image.device)[:, None, None, None]
    line = reference + positions * (image - reference)
    with evaluation_mode(network), torch.enable_grad(), ExitStack() as stack:
        for name, cell in network.named_modules():
            if isinstance(cell, Cell):
                for edge, operation in zip(cell.edges, cell.operations, strict=True):
                    stack.callback(operation.register_forward_hook(_recorder(outputs, (name, edge))).remove)
        logits = network(line.requires_grad_())
        answer = logits[-1].argmax()
        places = [place for place, output in outputs.items() if output.requires_grad]
        if not places:
            return {}
        gradients = torch.autograd.grad(logits[:, answer].sum(), [outputs[p] for p in places], allow_unused=True)
    found = {}
    for place, gradient in zip(places, gradients, strict=True):
        if gradient is not None:
            output = outputs[place].detach()
            parts = (gradient[1:] + gradient[:-1]) / 2 * (output[1:] - output[:-1])
            found[place] = parts.sum(dim=(0, 2, 3))
    return found


def _recorder(outputs: dict[Place, Tensor], place: Place) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def record(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        # a copy of its own: what a skip passes on is the node itself, whose gradient comes by all its edges
        outputs[place] = output.clone()
        return outputs[place]

    return record
