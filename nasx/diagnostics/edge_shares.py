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

STEPS = 16  # on the line between two images
CellEdge = tuple[str, Edge]  # module name of a cell, and one of its edges


def edge_shares(network: nn.Module, images: Tensor, background: Tensor, *, steps: int = STEPS) -> dict[Edge, float]:
    """Return the share of each edge in the total absolute conductance, averaged over the network's cells; sums to 1.

    It is empty if the network has no cells, or they do not influence the logits. The network is not changed.

    Args:
        network: trained.
        images: (n, channels, height, width), normalized as in training.
        background: reference of each image, of the same shape.
        steps: of the integral between two images.
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


def conductances(network: nn.Module, image: Tensor, reference: Tensor, *, steps: int) -> dict[CellEdge, Tensor]:
    """Return the contribution of each edge to the logit difference of two images, (channels of the edge,) each.

    The logit is that of the predicted class of the image. The integral along the line between the images is computed
    by the trapezoidal rule.

    Args:
        network: trained.
        image: (channels, height, width), normalized as in training.
        reference: (channels, height, width).
        steps: of the integral.
    """
    outputs: dict[CellEdge, Tensor] = {}
    positions = torch.linspace(0, 1, steps + 1, device=image.device)[:, None, None, None]
    line = reference + positions * (image - reference)
    with evaluation_mode(network), torch.enable_grad(), ExitStack() as stack:
        for name, cell in network.named_modules():
            if isinstance(cell, Cell):
                for edge, operation in zip(cell.edges, cell.operations, strict=True):
                    stack.callback(operation.register_forward_hook(_recorder(outputs, (name, edge))).remove)
        logits = network(line.requires_grad_())
        predicted = logits[-1].argmax()
        places = [place for place, output in outputs.items() if output.requires_grad]
        if not places:
            return {}
        gradients = torch.autograd.grad(logits[:, predicted].sum(), [outputs[p] for p in places], allow_unused=True)
    found = {}
    for place, gradient in zip(places, gradients, strict=True):
        if gradient is not None:
            output = outputs[place].detach()
            parts = (gradient[1:] + gradient[:-1]) / 2 * (output[1:] - output[:-1])
            found[place] = parts.sum(dim=(0, 2, 3))
    return found


def _recorder(outputs: dict[CellEdge, Tensor], place: CellEdge) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def record(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        # a copy: the output of a skip is the node itself, whose gradient is the sum over all its edges
        outputs[place] = output.clone()
        return outputs[place]

    return record
