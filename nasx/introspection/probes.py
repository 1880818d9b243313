"""Probes of any network: find modules after which it can be cut in two, to compute SHAP values inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from nasx.errors import SettingError, did_you_mean
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.shap import Probe

MIN_PROBES: Final = 2  # if there are fewer levels of resolution, the depth is divided evenly
DEPTH_SHARES: Final = (1 / 4, 1 / 2, 3 / 4)  # of the cuts, if the depth is divided evenly
TOLERANCE: Final = 1e-3  # share of the largest logit; results of kernels depend slightly on the batch size
CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class FeatureMap(NamedTuple):
    """Output of a module for two images."""

    name: str
    features: Tensor  # a copy, because later modules may work in place
    identity: int  # id of the output tensor: equal for a container and its last child
    position: int  # in the order in which modules finish

    @property
    def channel_dim(self) -> int:
        """Dimension of the channels: last for (n, tokens, channels) and (n, side, side, channels), else 1."""
        shape = self.features.shape
        is_channels_last = len(shape) == 3 or (len(shape) == 4 and shape[1] == shape[2] != shape[3])
        return len(shape) - 1 if is_channels_last else 1

    @property
    def size(self) -> int:
        """Number of positions: height * width, or tokens."""
        return self.features[0].numel() // self.features.shape[self.channel_dim]


def find_probes(network: nn.Module, images: Tensor, names: Sequence[str] | None = None) -> list[Probe]:
    """Return probes after modules of any network.

    By default they are after the last cut at each level of resolution except the coarsest, which is in front of the
    head. If the resolution hardly changes, as in a vision transformer, they are at a quarter, half and three quarters
    of the depth.

    Args:
        network: any classifier of images.
        images: (n, ...); the first two are passed through the network.
        names: modules to cut after. None: the default.

    Raises:
        SettingError: if a named module is unknown or not a cut, or the network has no cut.
    """
    with evaluation_mode(network), torch.no_grad():
        chosen = _default(network, images[:2]) if names is None else _named(network, images[:2], names)
    if not chosen:
        raise SettingError("probes", "cannot be chosen for this network: no single module output determines its logits")
    return [probe_at(network, m.name, images[:1], m.channel_dim) for m in chosen]


def probe_at(network: nn.Module, name: str, image: Tensor, channel_dim: int = 1) -> Probe:
    """Return the probe after a module.

    Args:
        network: any classifier of images.
        name: name of the module.
        image: (1, ...); only its shape, type and device are used.
        channel_dim: dimension of the channels in the output of the module.
    """
    module, blank = network.get_submodule(name), torch.zeros_like(image)

    def body(images: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        with _hook(module, lambda output: outputs.append(output.clone())):
            network(images)
        return outputs[0]

    def tail(output: Tensor) -> Tensor:
        with _hook(module, lambda _: output.clone()):
            logits: Tensor = network(blank)
        return logits

    return Probe(name, body, tail, channel_dim)


def _named(network: nn.Module, images: Tensor, names: Sequence[str]) -> list[FeatureMap]:
    maps, logits = _run(network, images)
    for name in names:
        problem = None
        if name not in maps:
            hint = did_you_mean(name, maps)
            problem = f"must be modules that run once and return a feature map, got {name!r}. {hint}"
        elif not _is_cut(network, maps[name], images, logits):
            problem = f"must be modules that every path to the logits goes through, got {name!r}"
        if problem:
            raise SettingError("probes", problem)
    return [maps[name] for name in names]


def _default(network: nn.Module, images: Tensor) -> list[FeatureMap]:
    for deep in (False, True):  # outer modules first: they are few, with well-known names
        cuts = [m for m in _cuts(network, images, deep=deep) if m.size > 1]
        chosen = _last_of_levels(cuts)
        if len(chosen) < MIN_PROBES:
            is_deep = len(cuts) > len(DEPTH_SHARES)
            chosen = [cuts[round(share * len(cuts)) - 1] for share in DEPTH_SHARES] if is_deep else cuts[:-1]
        if len(chosen) >= MIN_PROBES:
            break
    return chosen


def _last_of_levels(cuts: list[FeatureMap]) -> list[FeatureMap]:
    """Return the last cut before each reduction of the resolution by at least half."""
    return [m for m, after in pairwise(cuts) if after.size <= m.size / 2]


def _cuts(network: nn.Module, images: Tensor, *, deep: bool) -> list[FeatureMap]:
    """Return the cuts among the modules in containers, or with `deep` among all, in the order in which they finish."""
    maps, logits = _run(network, images)
    found: dict[int, FeatureMap] = {}

    def visit(parent: nn.Module, prefix: str) -> None:
        for child_name, child in parent.named_children():
            name = prefix + child_name
            is_cut = name in maps and _is_cut(network, maps[name], images, logits)
            if is_cut:
                same = found.get(maps[name].identity)
                # a container is preferred to its last child with the same tensor; a later in-place module replaces both
                if same is None or not name.startswith(f"{same.name}."):
                    found[maps[name].identity] = maps[name]
            # a module with a feature map that is not a cut is parallel to another path, and so are its children
            if (is_cut or name not in maps) and (deep or isinstance(child, CONTAINERS)):
                visit(child, f"{name}.")

    visit(network, "")
    return sorted(found.values(), key=lambda m: m.position)


def _is_cut(network: nn.Module, candidate: FeatureMap, images: Tensor, logits: Tensor) -> bool:
    try:
        replaced = probe_at(network, candidate.name, images[:1]).tail(candidate.features)
    except (RuntimeError, ValueError, AssertionError):
        return False  # another path has the one blank image, the replaced output has two
    return replaced.shape == logits.shape and bool((replaced - logits).abs().max() <= TOLERANCE * logits.abs().max())


def _run(network: nn.Module, images: Tensor) -> tuple[dict[str, FeatureMap], Tensor]:
    """Return the feature maps of the modules that run once, by name, and the logits."""
    outputs: dict[str, list[FeatureMap | None]] = {}
    kept: list[Tensor] = []  # alive, so that no id is used twice

    def recorder(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, arguments: Any, output: Any) -> None:
            is_map = isinstance(output, Tensor) and output.dim() > 2 and len(output) == len(images)
            entry = FeatureMap(name, output.clone(), id(output), len(kept)) if is_map else None
            kept.extend([output] if is_map else [])
            outputs.setdefault(name, []).append(entry)

        return record

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if name:
                stack.callback(module.register_forward_hook(recorder(name)).remove)
        logits = network(images)
    return {name: entries[0] for name, entries in outputs.items() if len(entries) == 1 and entries[0]}, logits


@contextmanager
def _hook(module: nn.Module, callback: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Call `callback` with the output of the module in the block; a returned tensor replaces the output."""
    handle = module.register_forward_hook(lambda _, arguments, output: callback(output))
    try:
        yield
    finally:
        handle.remove()
