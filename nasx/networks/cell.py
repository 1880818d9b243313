"""Cell of a network: operations on the edges between nodes; each node is the sum of its incoming edges."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasx.networks.edge import Edge
from nasx.networks.operations import OPERATIONS, Operations


class Cell(nn.Module):
    """Cell of a network: (n, channels, h, w) -> (n, channels, h, w)."""

    def __init__(self, edges: Sequence[Edge], channels: int, operations: Operations = OPERATIONS) -> None:
        """Build the operations.

        Args:
            edges: only live edges, each on a path from the input to the output.
            channels: channels of all feature maps.
            operations: constructor of each operation, by name.
        """
        super().__init__()
        # sorted by target, so that the sources of a node are computed before it
        self.edges = sorted(edges, key=lambda e: (e.target, e.source))
        self.operations = nn.ModuleList(operations[e.operation](channels) for e in self.edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes = {0: x}
        for edge, operation in zip(self.edges, self.operations, strict=True):
            term = operation(nodes[edge.source])
            nodes[edge.target] = nodes[edge.target] + term if edge.target in nodes else term
        return nodes[self.edges[-1].target]
