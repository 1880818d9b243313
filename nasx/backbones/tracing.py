"""Record the operations of a network with torch.fx, and the shapes of their results."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

IN_PLACE: Final[Mapping[Any, Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the operations of a network. Modules that cannot be entered, and those without children, stay whole."""
    whole: set[str] = set()
    while True:
        tracer = _Tracer(whole)
        try:
            graph = tracer.trace(model)
        except Exception:
            if not tracer.entered or tracer.entered[-1] in whole:
                raise
            whole.add(tracer.entered[-1])
            continue
        _return_first(graph)
        for node in graph.nodes:
            node.target = IN_PLACE.get(node.target, node.target)
            if node.kwargs.get("inplace") is True:
                node.kwargs = {**node.kwargs, "inplace": False}
        found = fx.GraphModule(model, graph)
        found.graph.eliminate_dead_code()
        found.recompile()
        return found


class _Tracer(fx.Tracer):
    """Records the operations, except for those inside of some modules."""

    def __init__(self, whole: set[str]) -> None:
        super().__init__()
        self.whole = whole  # names of modules that are not entered
        self.entered: list[str] = []  # names of the modules that are being traced, outermost first

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        has_children = any(True for _ in m.children())
        return (
            module_qualified_name in self.whole or not has_children or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.entered.append(self.path_of_module(m))
        found = super().call_module(m, forward, args, kwargs)
        self.entered.pop()
        return found


def _return_first(graph: fx.Graph) -> None:
    """Let a graph return its first result only: others, e.g. hidden states, would be needed up to the end."""
    output = next(iter(reversed(graph.nodes)))
    first: list[fx.Node] = []
    fx.map_arg(output.args, first.append)
    output.args = (first[0],)


class ShapeRecorder(fx.Interpreter):
    """Runs a graph, and records the shape of each result that is a tensor."""

    def of(self, images: Tensor) -> dict[fx.Node, tuple[int, ...]]:
        self.found: dict[fx.Node, tuple[int, ...]] = {}
        with torch.no_grad():
            self.run(images)
        return self.found

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = tuple(result.shape)
        return result
