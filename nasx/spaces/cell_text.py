"""The published string form of a cell, for any number of nodes: `|op~0|+|op~0|op~1|+...`, the edges into each node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from nasx.errors import ArchitectureError, did_you_mean

Ends: TypeAlias = tuple[int, int]  # (source, target) of an edge, source < target


def all_edges(n_nodes: int) -> tuple[Ends, ...]:
    """Every edge of a cell, in the order of the string form: into node 1, then into node 2, ...

    >>> all_edges(3)
    ((0, 1), (0, 2), (1, 2))
    """
    return tuple((source, target) for target in range(1, n_nodes) for source in range(target))


def write_cell(edges: Sequence[Ends], operations: Sequence[str], n_nodes: int) -> str:
    """The string form of a cell with one operation an edge.

    >>> write_cell(all_edges(3), ["conv", "none", "skip"], 3)
    '|conv~0|+|none~0|skip~1|'
    """
    parts = dict.fromkeys(range(1, n_nodes), "|")
    for (source, target), operation in zip(edges, operations, strict=True):
        parts[target] += f"{operation}~{source}|"
    return "+".join(parts.values())


def read_cell(text: str, edges: Sequence[Ends], known: Sequence[str], n_nodes: int) -> tuple[str, ...]:
    """The operations that a string form names, in the order of `edges`; `known` are those there are.

    Raises ArchitectureError saying what is wrong where.
    """
    nodes = text.strip().split("+")
    if len(nodes) != n_nodes - 1:
        raise ArchitectureError(f"an architecture has {n_nodes - 1} nodes joined by '+', got {len(nodes)} in {text!r}.")
    found: dict[Ends, str] = {}
    for target, node in enumerate(nodes, start=1):
        sources = [source for source, end in edges if end == target]
        tokens = re.fullmatch(r"\|" + r"([^|~]+)~(\d+)\|" * len(sources), node)
        if tokens is None or [int(s) for s in tokens.groups()[1::2]] != sources:
            wanted = "|" + "".join(f"op~{source}|" for source in sources)
            raise ArchitectureError(f"node {target} must be written {wanted}, got {node!r}.")
        for source, operation in zip(sources, tokens.groups()[::2], strict=True):
            if operation not in known:
                raise ArchitectureError(f"unknown operation {operation!r}. {did_you_mean(operation, known)}")
            found[source, target] = operation
    return tuple(found[ends] for ends in edges)
