"""Cut any traceable network into stages of feature maps: one for each level of resolution.

torch.fx records the operations of a network. After an operation, the network can be cut if no later one needs an
earlier result. The stages are the operations between such cuts, so they compute exactly what the network computes.
Modules that torch.fx cannot enter, e.g. because they check the shape of their input, stay whole.
"""

from __future__ import annotations

import copy
import operator
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from nasx.errors import SettingError, first_line

KEY: Final = "space.backbone"
LEVELS: Final = 3  # if there are fewer levels of resolution, the depth is divided evenly
DEPTH_SHARES: Final = (1 / 4, 1 / 2, 3 / 4)  # of the cuts, if the depth is divided evenly
TRIED: Final = ((128, 128), (128, 192))  # images on which a network is tried; the width shows in the feature maps
CLASSIFIERS: Final = frozenset({"classifier", "fc", "head", "heads"})  # modules in which no network is cut
CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
TOLERANCE: Final = 1e-4  # largest difference between the stages and the network, as a share of the largest number
IN_PLACE: Final[Mapping[Any, Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
Shapes = Sequence[tuple[int, ...]]  # of a result, for each of the images on which a network is tried


@dataclass(frozen=True)
class Cut:
    """Operation after which the network can be cut."""

    node: fx.Node
    size: int  # number of positions of its feature maps
    depth: int  # number of modules around it, apart from containers
    is_channels_last: bool  # (n, height, width, channels) instead of (n, channels, height, width)


class OneSize(nn.Module):
    """Returns its input, images of the one size that a network reads. Raises SettingError for another size."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.name = name
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != (self.size, self.size):
            problem = f"must be {self.size}: {self.name} reads no images of another size"
            raise SettingError("dataset.image_size", problem)
        return x


class LastMap(nn.Module):
    """Network that returns several feature maps, as one that returns the last of them."""

    def __init__(self, model: nn.Module, maps: Callable[[nn.Module, Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.maps = maps

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(self.model, x)[-1]


def split(model: nn.Module, name: str, size: int) -> nn.Sequential:
    """Return the stages of a network up to its last feature maps: frozen copies, in evaluation mode, in float32.

    Args:
        model: reads normalized color images (n, 3, height, width).
        name: of the network, for messages.
        size: height and width of the images on which the network is tried.

    Raises:
        SettingError: if the network cannot be cut, or if the stages compute something else.
    """
    model = model.eval().requires_grad_(False).float()
    for module in model.modules():
        if getattr(module, "inplace", None) is True:
            module.inplace = False  # type: ignore[assignment]  # a cut must not change the maps before it
    images = _images(model, name, size)
    try:
        whole = trace(model)
    except Exception as error:  # the user's forward may raise anything
        raise SettingError(KEY, f"cannot cut {name} into stages: torch.fx cannot trace it ({_short(error)})") from error
    if not all(_reads(whole, batch) for batch in images):  # the operations depend on the size
        images = [_image(size, size)]
    shapes = [_Shapes(whole).of(batch) for batch in images]
    cuts = _chosen(find_cuts(whole, shapes))
    if not cuts or _works_on_tokens(whole, cuts[-1].node, shapes[0]):
        raise SettingError(
            KEY,
            f"cannot cut {name} into stages: it has no point with feature maps (n, channels, height, width) that "
            "everything behind it depends on, as in a convolutional network",
        )
    stages = _stages(whole, _with_weights(whole, cuts))
    _verify(model, whole, stages, cuts[-1], images, name)
    return stages if len(images) > 1 else _of_one_size(stages, name, size)


def single_stage(model: nn.Module, name: str, size: int, stage: str) -> nn.Sequential:
    """Return a network whose output are feature maps as one stage: a frozen copy, as `split`.

    Args:
        model: reads normalized color images (n, 3, height, width).
        name: of the network, for messages.
        size: height and width of the images on which the network is tried.
        stage: name of the stage.

    Raises:
        SettingError: if its output are no feature maps.
    """
    whole = copy.deepcopy(model).eval().requires_grad_(False).float()
    images = _images(whole, name, size)
    with torch.no_grad():
        found = whole(images[0])
    if not isinstance(found, Tensor) or found.dim() != 4 or min(found.shape[2:]) < 2:
        raise SettingError(KEY, f"cannot use {name}: it returns no feature maps (n, channels, height, width)")
    stages = nn.Sequential(OrderedDict({stage: whole}))
    return stages if len(images) > 1 else _of_one_size(stages, name, size)


def _of_one_size(stages: nn.Sequential, name: str, size: int) -> nn.Sequential:
    """Return stages of which the first refuses images of another size."""
    first, *others = stages.named_children()
    check = nn.Sequential(OneSize(name, size), first[1])
    return nn.Sequential(OrderedDict([(first[0], check), *others]))


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
        self.entered: list[str] = []  # names of the modules that are being traced; after an error: where it was raised

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


class _Shapes(fx.Interpreter):
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


def find_cuts(whole: fx.GraphModule, shapes: Sequence[Mapping[fx.Node, tuple[int, ...]]]) -> list[Cut]:
    """Return the operations with feature maps on which everything behind them depends, in order.

    Args:
        whole: network with one input.
        shapes: of the results, for square images, and for wider ones if the network reads them.
    """
    graph = whole.graph
    moving = _moving(graph)
    order = {node: number for number, node in enumerate(graph.nodes)}
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in moving}
    found, furthest = [], -1  # furthest: last use of all results before
    for node in graph.nodes:
        if node not in moving:
            continue
        inside = _modules_of(node)
        if furthest <= order[node] and node.op not in ("placeholder", "output") and not CLASSIFIERS & set(inside):
            kind = _kind([shape[node] for shape in shapes if node in shape])
            if kind is not None:
                height, width = shapes[0][node][1:3] if kind else shapes[0][node][2:4]
                found.append(Cut(node, height * width, _depth(whole, node, inside), kind))
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
    return False if b == c > 1 and a != b else True if a == b > 1 and c != b else None


def _depth(whole: fx.GraphModule, node: fx.Node, inside: Sequence[str]) -> int:
    """Return the number of modules, apart from containers, that go on after an operation, of those around it."""
    around = [name for name in inside if name in _modules_of(node.next)]
    return sum(not isinstance(whole.get_submodule(name), CONTAINERS) for name in around)


def _chosen(cuts: Sequence[Cut]) -> list[Cut]:
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


def _with_weights(whole: fx.GraphModule, cuts: Sequence[Cut]) -> list[Cut]:
    """Return the cuts without those that would make a stage without weights. The last one is kept."""
    kept: list[Cut] = []
    for cut in cuts:
        own = fx.GraphModule(whole, _between(whole.graph, kept[-1] if kept else None, cut))
        if any(True for _ in own.parameters()):
            kept.append(cut)
        elif cut is cuts[-1]:
            kept[-1:] = [cut]
    return kept


def _works_on_tokens(whole: fx.GraphModule, last: fx.Node, shapes: Mapping[fx.Node, tuple[int, ...]]) -> bool:
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


def _stages(whole: fx.GraphModule, cuts: Sequence[Cut]) -> nn.Sequential:
    """Return the operations between cuts as modules, with copies of the weights."""
    names = list(_names([cut.node for cut in cuts]))
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    before: Cut | None = None
    for name, cut in zip(names, cuts, strict=True):
        part = fx.GraphModule(whole, _between(whole.graph, before, cut))
        stages[name] = copy.deepcopy(part)  # no module in two stages
        before = cut
    for module in stages.values():
        for each in module.modules():
            each._forward_hooks.clear()  # of transformers, which collect hidden states
    return nn.Sequential(stages).eval().requires_grad_(False)


def _between(graph: fx.Graph, before: Cut | None, cut: Cut) -> fx.Graph:
    """Return the operations behind one cut up to another, from and to maps (n, channels, height, width)."""
    start = next(node for node in graph.nodes if node.op == "placeholder") if before is None else before.node
    part, copies = fx.Graph(), {}
    copies[start] = part.placeholder("maps")
    if before is not None and before.is_channels_last:
        copies[start] = part.call_method("permute", (copies[start], 0, 2, 3, 1))
    needed = _ancestors(cut.node, start)
    for node in graph.nodes:
        if node in needed and node is not start:
            copies[node] = part.node_copy(node, lambda each: copies[each])
    result = copies[cut.node]
    part.output(part.call_method("permute", (result, 0, 3, 1, 2)) if cut.is_channels_last else result)
    return part


def _ancestors(node: fx.Node, start: fx.Node) -> set[fx.Node]:
    """Return the operations on which a result depends, itself included, back to a start."""
    found, waiting = {start}, [node]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += each.all_input_nodes
    return found


def _names(ends: Sequence[fx.Node]) -> Iterator[str]:
    """Yield a name for each stage: of the outermost module that ends with it, else of its last operation."""
    used: set[str] = set()
    for end in ends:
        if end.target is operator.getitem:
            end = end.all_input_nodes[0]
        ended = [name for name in _modules_of(end) if name not in _modules_of(end.next)]
        ended = [name for name in ended if name != "model"] or ended  # of `LastMap`
        name = re.sub(r"\W+", "_", ended[0].removeprefix("model.") if ended else end.name)
        while name in used:
            name += "_"
        used.add(name)
        yield name


def _modules_of(node: fx.Node) -> list[str]:
    """Return the names of the modules that contain an operation, the outermost first."""
    stack = [str(name) for name in node.meta.get("nn_module_stack") or () if name]
    return [*stack, str(node.target)] if node.op == "call_module" and str(node.target) not in stack else stack


def _images(model: nn.Module, name: str, size: int) -> list[Tensor]:
    """Return random square images and wider ones; if the network does not read them, only square ones of its size."""
    images = [_image(height, width) for height, width in TRIED]
    if all(_reads(model, batch) for batch in images):
        return images
    own = _image(size, size)
    try:
        with torch.no_grad():
            model(own)
    except Exception as error:  # the user's forward may raise anything
        if _reads(model, own[:, :1]):
            raise SettingError(KEY, f"must read color images (3 channels): {name} reads gray ones") from error
        problem = f"cannot use {name}: it fails on a color image of {size} x {size} pixels ({_short(error)})"
        raise SettingError(KEY, problem) from error
    return [own]


def _image(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def _reads(model: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad(), _quiet():
            model(images)
    except Exception:  # the user's forward may raise anything
        return False
    return True


def _verify(
    model: nn.Module, whole: fx.GraphModule, stages: nn.Sequential, last: Cut, images: Sequence[Tensor], name: str
) -> None:
    """Raise SettingError if the stages compute something else than the network up to the last cut."""
    up_to_last = fx.GraphModule(whole, _between(whole.graph, None, last))
    with torch.no_grad():
        for batch in images:
            maps = batch.clone()
            for stage in stages:
                before = maps.clone()
                after = stage(maps)
                if not torch.equal(before, maps):
                    raise SettingError(KEY, f"cannot cut {name} into stages: a stage changes its input in place")
                maps = after
            if not maps.isfinite().all():
                raise SettingError(
                    KEY, f"cannot use {name}: its feature maps are not finite numbers; check its weights"
                )
            pairs = ((_first(model(batch)), _first(whole(batch))), (up_to_last(batch), maps))
            if not all(_is_close(a, b) for a, b in pairs):
                raise SettingError(KEY, f"cannot cut {name} into stages: the stages compute other feature maps")


@contextmanager
def _quiet() -> Iterator[None]:
    """Do not print the code of a graph that fails, as torch.fx does."""
    with redirect_stderr(StringIO()):
        yield


def _first(output: Any) -> Tensor:
    """Return the first tensor of an output."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, Mapping) else output))
    return output


def _is_close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= TOLERANCE * max(1e-6, float(a.abs().max())))


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:160]
