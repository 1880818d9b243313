"""Normal form of a cell: equal for two encodings if and only if they are the same network.

The value of a node is a formal sum. Each term is the cell's input or the output of one convolution, followed by a
number of average poolings, with a multiplicity. A skip adds the terms of its source unchanged; a pooling adds them with
one pooling more (pooling is linear); a convolution with an input is a term of its own, with its own weights. Sums are
unordered, and edges that do not reach the output are dropped.

One convolution used twice differs from two convolutions, so convolutions have an identity: two forms are equal if some
renaming of the convolutions makes them equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, prod
from typing import TypeAlias

from nasx.networks.edge import AVG_POOL, NONE, SKIP, Edge

INPUT = -1  # the cell's input; convolutions are numbered from 0 in the order of the edges
POOLINGS = frozenset({AVG_POOL})

Term: TypeAlias = tuple[int, int]  # (INPUT or a convolution, number of poolings after it)
Sum: TypeAlias = "Counter[Term]"


@dataclass(frozen=True)
class NormalForm:
    """Canonical text of a cell, with the edges of the convolutions that it numbers."""

    text: str
    convolutions: tuple[Edge, ...]  # those that reach the output, in the order of the text


def normal_form(edges: Mapping[tuple[int, int], str], n_nodes: int) -> NormalForm | None:
    """Return the normal form of a cell given as operation by (source, target); None if no path reaches the output.

    >>> chain = {(0, 1): "skip_connect", (0, 2): "none", (1, 2): "nor_conv_1x1"}
    >>> normal_form(chain, 3).text
    'nor_conv_1x1(x)>0'
    """
    nodes: list[Sum] = [Counter({(INPUT, 0): 1})]
    convolutions: list[tuple[Edge, Sum]] = []
    for target in range(1, n_nodes):
        value: Sum = Counter()
        for source in range(target):
            operation = edges[source, target]
            if operation == NONE or not nodes[source]:
                continue
            if operation == SKIP:
                value.update(nodes[source])
            elif operation in POOLINGS:
                value.update({(base, pools + 1): times for (base, pools), times in nodes[source].items()})
            else:
                value[len(convolutions), 0] += 1
                convolutions.append((Edge(source, target, operation), nodes[source]))
        nodes.append(value)
    output = nodes[-1]
    return _canonical(convolutions, output) if output else None


def _canonical(convolutions: list[tuple[Edge, Sum]], output: Sum) -> NormalForm:
    live = _live(convolutions, output)
    colors = _colors(convolutions, live)
    groups = [[c for c in live if colors[c] == color] for color in sorted({colors[c] for c in live})]
    assert prod(factorial(len(g)) for g in groups) <= 720  # a cell of six edges has at most six convolutions
    orders = ([c for group in choice for c in group] for choice in product(*(permutations(g) for g in groups)))
    text, order = min((_format(convolutions, output, order), order) for order in orders)
    return NormalForm(text, tuple(convolutions[c][0] for c in order))


def _live(convolutions: list[tuple[Edge, Sum]], output: Sum) -> list[int]:
    """Return the convolutions that reach the output."""
    found: set[int] = set()
    waiting = [base for base, _ in output]
    while waiting:
        base = waiting.pop()
        if base != INPUT and base not in found:
            found.add(base)
            waiting.extend(b for b, _ in convolutions[base][1])
    return sorted(found)


def _colors(convolutions: list[tuple[Edge, Sum]], live: list[int]) -> dict[int, str]:
    """Return the expression of each convolution without numbers: only equal ones are interchangeable."""
    colors = {INPUT: "x"}
    for c in live:  # edges are in topological order
        edge, value = convolutions[c]
        terms = sorted(f"{times}*{colors[base]}@{pools}" for (base, pools), times in value.items())
        colors[c] = f"{edge.operation}({'+'.join(terms)})"
    return colors


def _format(convolutions: list[tuple[Edge, Sum]], output: Sum, order: list[int]) -> str:
    """Return the cell as text for one numbering: `operation(sum)` per convolution, then `>` and the output's sum."""
    names = {INPUT: "x"} | {c: str(i) for i, c in enumerate(order)}

    def total(value: Sum) -> str:
        terms = (
            "".join((f"{times}*" if times > 1 else "", names[b], "'" * pools)) for (b, pools), times in value.items()
        )
        return "+".join(sorted(terms))

    written = ";".join(f"{convolutions[c][0].operation}({total(convolutions[c][1])})" for c in order)
    return f"{written}>{total(output)}"
