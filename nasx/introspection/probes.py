"""Find where a network can be split in two, so that SHAP values can be computed inside it."""

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

MIN_PROBES: Final = 2  # fewer levels of resolution than that, and the depth is divided evenly instead
DEPTH_SHARES: Final = (1 / 4, 1 / 2, 3 / 4)  # shares of the depth
TOLERANCE: Final = 1e-3  # of the largest logit; kernels differ a little with the batch size
CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class FeatureMap(NamedTuple):
    """The features that a module gave for two images."""

    name: str
    features: Tensor  # a copy, since what follows may work in place
    identity: int  # of the tensor itself: a container gives its last child's
    position: int  # in the order in which modules ended

    @property
    def channel_dim(self) -> int:
        """(n, channels, ...), but (n, tokens, channels) and (n, side, side, channels)."""
        shape = self.features.shape
        is_channels_last = len(shape) == 3 or (len(shape) == 4 and shape[1] == shape[2] != shape[3])
        return len(shape) - 1 if is_channels_last else 1

    @property
    def size(self) -> int:
        """Positions in space: height * width, or tokens."""
        return self.features[0].numel() // self.features.shape[self.channel_dim]


def find_probes(network: nn.Module, images: Tensor, names: Sequence[str] | None = None) -> list[Probe]:
    """Probes after the named modules of any `network`, tried on the first two `images`, (n, ...).

    None: after the last cut at each level of resolution but the coarsest, which is in front of the head; where the
    resolution hardly changes, as in a vision transformer, at a quarter, half and three quarters of the depth.
    Raises SettingError where a module named is unknown or no cut, or where no cut is found.
    """
    with evaluation_mode(network), torch.no_grad():
        chosen = _default(network, images[:2]) if names is None else _named(network, images[:2], names)
    if not chosen:
        raise SettingError("probes", "has no default for this network: no module's output alone determines its logits")
    return [probe_at(network, m.name, images[:1], m.channel_dim) for m in chosen]


def probe_at(network: nn.Module, name: str, image: Tensor, channel_dim: int = 1) -> Probe:
    """The probe after the module `name`. `image`, (1, ...), says what images look like; its content does not matter."""
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
        if name not in maps:
            problem = f"names {name!r}, which is no module that gives a map of features once."
            raise SettingError("probes", f"{problem} {did_you_mean(name, maps)}")
        if not _is_cut(network, maps[name], images, logits):
            raise SettingError(
                "probes",
                f"names {name!r}, but its output alone does not determine the logits: choose a module that every path "
                "goes through",
            )
    return [maps[name] for name in names]


def _default(network: nn.Module, images: Tensor) -> list[FeatureMap]:
    for deep in (False, True):  # at first the outer modules alone: they are few, and have the names that people know
        cuts = [m for m in _cuts(network, images, deep=deep) if m.size > 1]
        chosen = _last_of_levels(cuts)
        if len(chosen) < MIN_PROBES:
            is_deep = len(cuts) > len(DEPTH_SHARES)
            chosen = [cuts[round(share * len(cuts)) - 1] for share in DEPTH_SHARES] if is_deep else cuts[:-1]
        if len(chosen) >= MIN_PROBES:
            break
    return chosen


def _last_of_levels(cuts: list[FeatureMap]) -> list[FeatureMap]:
    """The last cut before each halving of the resolution, or a stronger fall of it."""
    return [m for m, after in pairwise(cuts) if after.size <= m.size / 2]


def _cuts(network: nn.Module, images: Tensor, *, deep: bool) -> list[FeatureMap]:
    """The cuts among the modules in containers, with `deep` among all, in the order in which they end."""
    maps, logits = _run(network, images)
    found: dict[int, FeatureMap] = {}

    def visit(parent: nn.Module, prefix: str) -> None:
        for child_name, child in parent.named_children():
            name = prefix + child_name
            is_cut = name in maps and _is_cut(network, maps[name], images, logits)
            if is_cut:
                same = found.get(maps[name].identity)
                # a container gives its last child's tensor, and has the better name; what works in place comes later
                if same is None or not name.startswith(f"{same.name}."):
                    found[maps[name].identity] = maps[name]
            # what gives a map but is no cut lies beside another path, and so does all inside it
            if (is_cut or name not in maps) and (deep or isinstance(child, CONTAINERS)):
                visit(child, f"{name}.")

    visit(network, "")
    return sorted(found.values(), key=lambda m: m.position)


def _is_cut(network: nn.Module, candidate: FeatureMap, images: Tensor, logits: Tensor) -> bool:
    try:
        replaced = probe_at(network, candidate.name, images[:1]).tail(candidate.features)
    except (RuntimeError, ValueError, AssertionError):
        return False  # another path brings one blank image where the replaced one brings two
    return replaced.shape == logits.shape and bool((replaced - logits).abs().max() <= TOLERANCE * logits.abs().max())


def _run(network: nn.Module, images: Tensor) -> tuple[dict[str, FeatureMap], Tensor]:
    """The maps of the modules that ran once and gave features for each image, by name; the logits."""
    outputs: dict[str, list[FeatureMap | None]] = {}
    kept: list[Tensor] = []  # so that no identity is given twice

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
def _hook(module: nn.Module, take: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """While active, `take` sees the module's output; what it gives takes the output's place."""
    handle = module.register_forward_hook(lambda _, arguments, output: take(output))
    try:
        yield
    finally:
        handle.remove()
