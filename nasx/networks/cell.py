"""A cell: nodes in a row, operations on the edges between them, each node the sum of what its edges bring."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasx.networks.edge import Edge
from nasx.networks.operations import OPERATIONS, Operations


class Cell(nn.Module):
    """Computes (n, channels, h, w) -> (n, channels, h, w) along its edges.

    The edges are the live ones alone: each lies on a path from the input to the output.
    """

    def __init__(self, edges: Sequence[Edge], channels: int, operations: Operations = OPERATIONS) -> None:
        super().__init__()
        # nodes in order, so that a node's sources are computed before it
        self.edges = sorted(edges, key=lambda e: (e.target, e.source))
        self.operations = nn.ModuleList(operations[e.operation](channels) for e in self.edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes = {0: x}
        for edge, operation in zip(self.edges, self.operations, strict=True):
            term = operation(nodes[edge.source])
            nodes[edge.target] = nodes[edge.target] + term if edge.target in nodes else term
        return nodes[self.edges[-1].target]
