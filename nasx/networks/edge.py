"""The edges of a cell and the names of what they carry, without torch: for spaces, drawings and reports."""

from __future__ import annotations

from typing import Final, NamedTuple

NONE: Final = "none"  # zeroize: nothing flows
SKIP: Final = "skip_connect"  # the identity
CONV_1X1: Final = "nor_conv_1x1"
CONV_3X3: Final = "nor_conv_3x3"
AVG_POOL: Final = "avg_pool_3x3"


class Edge(NamedTuple):
    """One edge of a cell. Node 0 is the input, the highest node the output."""

    source: int
    target: int
    operation: str
