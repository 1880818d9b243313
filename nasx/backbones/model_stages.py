"""Cut any traceable network into stages of feature maps: one for each level of resolution.

torch.fx records the operations of a network. After an operation, the network can be cut if no later one needs an
earlier result. The stages are the operations between such cuts, so they compute exactly what the network computes.
Modules that torch.fx cannot enter, e.g. because they check the shape of their input, stay whole.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from nasx.backbones.cuts import Cut, choose, find_cuts, stage_names, works_on_tokens
from nasx.backbones.sources import KEY
from nasx.backbones.tracing import ShapeRecorder, trace
from nasx.data.dataset import IMAGE_SIZES
from nasx.errors import SettingError, kind_and_line

TRIED: Final = ((128, 128), (128, 192))  # images on which a network is tried; the width shows in the feature maps
TOLERANCE: Final = 1e-4  # largest difference between the stages and the network, as a share of the largest number


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
    if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
        raise SettingError(KEY, f"cannot use {name}: it has lazy modules; pass an image through it in its function")
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
    shapes = [ShapeRecorder(whole).of(batch) for batch in images]
    cuts = choose(find_cuts(model, whole.graph, shapes))
    if not cuts or works_on_tokens(whole, cuts[-1].node, shapes[0]):
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
    if not found.isfinite().all():
        raise SettingError(KEY, f"cannot use {name}: its output is not of finite numbers; check its weights")
    stages = nn.Sequential(OrderedDict({stage: whole}))
    return stages if len(images) > 1 else _of_one_size(stages, name, size)


def _of_one_size(stages: nn.Sequential, name: str, size: int) -> nn.Sequential:
    """Return stages of which the first refuses images of another size. Raises SettingError if none can be so large."""
    if size > (most := IMAGE_SIZES[1]):
        problem = f"it reads only images of {size} x {size} pixels, and nasx at most {most} x {most}"
        raise SettingError(KEY, f"cannot use {name}: {problem}")
    first, *others = stages.named_children()
    check = nn.Sequential(OneSize(name, size), first[1])
    return nn.Sequential(OrderedDict([(first[0], check), *others]))


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


def _stages(whole: fx.GraphModule, cuts: Sequence[Cut]) -> nn.Sequential:
    """Return the operations between cuts as modules, with copies of the weights."""
    names = list(stage_names([cut.node for cut in cuts]))
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
            if not _first(model(batch)).isfinite().all():
                raise SettingError(KEY, f"cannot use {name}: its output is not of finite numbers; check its weights")
            maps = batch.clone()
            for stage in stages:
                before = maps.clone()
                after = stage(maps)
                if not torch.equal(before, maps):
                    raise SettingError(KEY, f"cannot cut {name} into stages: a stage changes its input in place")
                maps = after
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
    return kind_and_line(error)[:160]
