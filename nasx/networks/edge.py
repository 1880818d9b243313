"""Edges of a cell and names of operations. Imports no torch, so that reports load fast."""

from __future__ import annotations

from typing import Final, NamedTuple

NONE: Final = "none"  # carries nothing
SKIP: Final = "skip_connect"  # identity
CONV_1X1: Final = "nor_conv_1x1"
CONV_3X3: Final = "nor_conv_3x3"
AVG_POOL: Final = "avg_pool_3x3"


class Edge(NamedTuple):
    """Edge of a cell. Node 0 is the input, the highest node the output."""

    source: int
    target: int
    operation: str
