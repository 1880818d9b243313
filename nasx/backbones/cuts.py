"""Find the operations after which a network can be cut: every later one depends on their feature maps only."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Final

from torch import fx, nn

LEVELS: Final = 3  # if there are fewer levels of resolution, the depth is divided evenly
DEPTH_SHARES: Final = (1 / 4, 1 / 2, 3 / 4)  # of the cuts, if the depth is divided evenly
CLASSIFIERS: Final = frozenset({"classifier", "fc", "head", "heads"})  # modules in which no network is cut
Shapes = Sequence[tuple[int, ...]]  # of a result, for each of the images on which a network is tried


@dataclass(frozen=True)
class Cut:
    """Operation after which the network can be cut."""

    node: fx.Node
    size: int  # number of positions of its feature maps
    depth: int  # number of modules around it that continue after it
    is_channels_last: bool  # (n, height, width, channels) instead of (n, channels, height, width)


def find_cuts(model: nn.Module, graph: fx.Graph, shapes: Sequence[Mapping[fx.Node, tuple[int, ...]]]) -> list[Cut]:
    """Return the operations with feature maps on which everything behind them depends, in order.

    Args:
        model: network.
        graph: its operations.
        shapes: of the results, for square images, and for wider ones if the network reads them.
    """
    moving = _moving(graph)
    order = {node: number for number, node in enumerate(graph.nodes)}
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in moving}
    found, furthest, has_weights = [], -1, False  # furthest: last use of all results before
    for node in graph.nodes:
        has_weights = has_weights or node.op == "get_attr"
        if node not in moving:
            continue
        if node.op == "call_module":
            has_weights = has_weights or _n_weights(model.get_submodule(str(node.target))) > 0
        if (
            furthest <= order[node]
            and has_weights
            and node.op not in ("placeholder", "output")
            and not CLASSIFIERS & set(_modules_of(node))
        ):
            kind = _kind([shape[node] for shape in shapes if node in shape])
            if kind is not None:
                height, width = shapes[0][node][1:3] if kind else shapes[0][node][2:4]
                found.append(Cut(node, height * width, _depth(node), kind))
        furthest = max(furthest, last_use[node])
    return found


def _moving(graph: fx.Graph) -> dict[fx.Node, None]:
    """Return the operations whose result depends on the images, in order; the others only read parameters."""
    found: dict[fx.Node, None] = {}
    for node in graph.nodes:
        if node.op == "placeholder" or any(each in found for each in node.all_input_nodes):
            found[node] = None
    return found


def _kind(shapes: Shapes) -> bool | None:
    """Return whether feature maps are channels last; None if these are no feature maps.

    >>> _kind([(2, 8, 28, 28), (2, 8, 28, 36)]), _kind([(2, 28, 28, 8), (2, 28, 36, 8)]), _kind([(2, 8, 1, 1)] * 2)
    (False, True, None)
    """
    if not shapes or any(len(shape) != 4 for shape in shapes):
        return None
    _, a, b, c = shapes[0]
    if len(shapes) > 1 and shapes[-1] != shapes[0]:
        _, a2, b2, c2 = shapes[-1]
        if min(b, c) > 1 and (a2, b2) == (a, b) and c2 > c:
            return False
        return True if min(a, b) > 1 and (a2, c2) == (a, c) and b2 > b else None
    if len(shapes) > 1:
        return None  # as wide for a wider image: pooled
    return False if b == c > 1 else True if a == b > 1 else None  # the network reads only square images


def _depth(node: fx.Node) -> int:
    """Return the number of modules around an operation that continue after it."""
    return len({*_modules_of(node)} & {*_modules_of(node.next)})


def choose(cuts: Sequence[Cut]) -> list[Cut]:
    """Return the last cut of each level of resolution, or some more if there are few levels.

    Cuts at the end of outer modules come first: between the blocks of a network rather than inside of one.
    """
    levels: list[Cut] = []
    for depth in sorted({cut.depth for cut in cuts}):
        outer = [cut for cut in cuts if cut.depth <= depth]
        levels = [cut for cut, after in pairwise(outer) if after.size <= cut.size / 2] + [outer[-1]]
        if len(levels) >= LEVELS:
            return levels
    if len(cuts) <= len(DEPTH_SHARES):
        return list(cuts)
    even = {round(share * len(cuts)) - 1 for share in DEPTH_SHARES}
    return [cut for number, cut in enumerate(cuts) if number in even or cut in levels]


def works_on_tokens(whole: fx.GraphModule, last: fx.Node, shapes: Mapping[fx.Node, tuple[int, ...]]) -> bool:
    """Return whether most weights belong to operations behind the last cut on tokens, as in a vision transformer."""
    before, on_tokens, is_behind = 0, 0, False
    for node in whole.graph.nodes:
        n = _n_weights(whole.get_submodule(str(node.target))) if node.op == "call_module" else 0
        shape = shapes.get(node, ())
        if not is_behind:
            before += n
        elif (len(shape) == 3 and shape[1] > 1) or (len(shape) == 4 and prod(shape[2:]) > 1):
            on_tokens += n
        is_behind = is_behind or node is last
    return on_tokens > before


def _n_weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def stage_names(ends: Sequence[fx.Node]) -> Iterator[str]:
    """Yield a name for each stage: of the outermost module that ends with it, else of its last operation."""
    used: set[str] = set()
    for end in ends:
        while end.target in (operator.getitem, getattr):  # of an output with several parts
            end = end.all_input_nodes[0]
        ended = [name for name in _modules_of(end) if name not in _modules_of(end.next)]
        ended = [name for name in ended if name != "model"] or ended  # of `LastMap`
        name = re.sub(r"\W+", "_", ended[0].removeprefix("model.") if ended else end.name)
        name = name.strip("_") or end.name
        name = f"module{name}" if name[0].isdigit() else name
        while name in used:
            name += "_"
        used.add(name)
        yield name


def _modules_of(node: fx.Node) -> list[str]:
    """Return the names of the modules that contain an operation, the outermost first."""
    stack = [
        str(name) for name in node.meta.get("nn_module_stack") or () if name and "@" not in name
    ]  # @: called again
    return [*stack, str(node.target)] if node.op == "call_module" and str(node.target) not in stack else stack
