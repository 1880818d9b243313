"""Introspectability by SHAP, the default scorer: class distances of expected gradients inside a network.

`draw_paths` and the other samplers choose images to explain, background images and the paths between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from nasx.data.batches import Pixels, split_batches, take
from nasx.errors import SettingError, TrialFailure, did_you_mean
from nasx.introspection.base import BatchedScorer, make_score
from nasx.introspection.class_similarity import pair_weights, read_similarity
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.similarity import class_means, cosine_distances, gram, mean_distances
from nasx.trial import Reason, Score


class Paths(NamedTuple):
    """For each sample and draw, from which background image the path starts and how far along it is looked at."""

    background: Tensor  # (n_samples, n_draws) int64, indices into the background
    position: Tensor  # (n_samples, n_draws) float32 in [0, 1): 0 at the background image, 1 at the sample


def draw_paths(n_samples: int, n_draws: int, n_background: int, *, generator: Generator) -> Paths:
    """Paths spread as evenly as they can be.

    A sample's draws look at ascending positions, one drawn uniformly in each of n_draws equal intervals, and meet the
    background images round by round in random order: so each is met equally often and all along the way. Every single
    draw is as good as uniform, so the estimate stays unbiased, but the draws of a sample do not repeat each other.
    """
    rounds = -(-n_draws // n_background)
    order = torch.rand(n_samples, rounds, n_background, generator=generator).argsort(dim=2)
    jitter = torch.rand(n_samples, n_draws, generator=generator)
    return Paths(order.flatten(1)[:, :n_draws], (torch.arange(n_draws) + jitter) / n_draws)


def midpoint_paths(n_samples: int, n_draws: int) -> Paths:
    """Paths from one starting point, looked at in the middle of n_draws equal intervals: the midpoint rule.

    Rectifiers bend a logit along its way, so that rules of higher order come no nearer (measured: Gauss-Legendre).
    """
    positions = (torch.arange(n_draws) + 0.5) / n_draws
    return Paths(torch.zeros(n_samples, n_draws, dtype=torch.int64), positions.expand(n_samples, -1))


def stratified_sample(labels: Tensor, n_per_class: int, *, generator: Generator) -> Tensor:
    """Indices of up to n_per_class samples of each class among `labels`, (n,); all of a smaller class.

    Classes take turns, so that the first k indices hold every class about k / n_classes times.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    turn = _rank_in_class(labels[shuffled])
    chosen = shuffled[turn < n_per_class]
    turn = turn[turn < n_per_class]
    return chosen[torch.argsort(turn * (int(labels.max()) + 1 if len(labels) else 1) + labels[chosen])]


def split_sample(labels: Tensor, *, n_per_class: int, n_background: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Indices of the images to explain and of the background, both stratified by `labels`, (n,).

    They are disjoint where images suffice; what is missing in the background is taken from the images to explain, since
    a background too small would estimate another value.
    """
    explained = stratified_sample(labels, n_per_class, generator=generator)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[explained] = False
    others = rest.nonzero().flatten()
    background = others[stratified_sample(labels[others], n_background, generator=generator)][:n_background]
    missing = n_background - len(background)
    return explained, torch.cat([background, explained[:missing]])


def _rank_in_class(labels: Tensor) -> Tensor:
    """How many equal labels precede each label: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = torch.argsort(labels, stable=True)
    ordered = labels[order]
    starts = torch.searchsorted(ordered, ordered)  # where the run of each label begins
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(labels)) - starts
    return ranks


CPU_BATCH: Final = 128  # gradients: activations stay in the cache
GPU_BATCH: Final = 512  # gradients: four times fewer kernels to launch
SAMPLES_AT_ONCE: Final = 1024  # samples whose activations at a layer are held


@dataclass(frozen=True, eq=False)
class Probe:
    """A layer at which a network is cut in two."""

    name: str
    body: Callable[[Tensor], Tensor]  # images (n, ...) to the layer's output (n, channels, ...)
    tail: Callable[[Tensor], Tensor]  # the layer's output to logits (n, n_classes)
    channel_dim: int = 1  # of the layer's output


class ShapScorer(BatchedScorer):
    """Mean cosine distance between the class means of channel-wise SHAP values, averaged over the probe layers."""

    def __init__(
        self,
        *,
        samples_per_class: int = 20,
        draws: int = 8,
        background: int = 32,
        batch_size: int | None = None,
        explain: Literal["true", "predicted"] = "true",
        path: Literal["random", "quadrature"] = "random",
        probes: tuple[str, ...] | None = None,
        similarity: Path | None = None,
    ) -> None:
        """How the values are estimated.

        `samples_per_class`: images explained of each class. `draws`: gradients a sample and probe. `background`: images
        that stand for "nothing in particular". `batch_size`: gradients computed at a time, which bounds the memory;
        None: 128, on a GPU 512. `explain`: the logit explained, and the class that a sample counts for. `probes`: the
        stages after whose output the network is cut; None: all but the last in front of the head, where vectors of
        classes are near-orthogonal whatever the network. `similarity`: a CSV of class similarities by which pairs are
        weighed.
        `path`: "random" ways from background images (expected gradients), or "quadrature": `draws` fixed points on the
        one way from the background's mean activation (integrated gradients). The latter's completeness error is ten
        times lower for the same number of gradients; but it is another quantity, and on the digits it tells
        architectures less well from seeds (24 networks x 4: ICC 0.47 against 0.69), so it is not the default.
        """
        # defaults: for the same number of gradients, few draws of many samples come nearest to the score of all images
        # (correlation over 24 trained networks 0.98, against 0.96 for half the samples with twice the draws)
        counts = {
            "samples_per_class": samples_per_class,
            "draws": draws,
            "background": background,
            "batch_size": batch_size,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise SettingError(name, f"must be at least 1, got {value}")
        if probes is not None and not probes:
            raise SettingError("probes", "must name at least one stage, or be null for the default")
        self.samples_per_class = samples_per_class
        self.draws = draws
        self.background = background
        self.batch_size = batch_size
        self.explain = explain
        self.path = path
        self.probes = probes
        self.similarity = read_similarity(similarity) if similarity is not None else None

    @property
    def name(self) -> str:
        predicted = ["predicted"] if self.explain == "predicted" else []
        quadrature = ["quadrature"] if self.path == "quadrature" else []
        weighted = ["weighted"] if self.similarity is not None else []
        return "_".join(["shap", *predicted, *quadrature, *weighted])

    def score(
        self, network: nn.Sequential, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int
    ) -> Score:
        """The score of a trained network; see `nasx.protocols.Scorer`. The seed chooses images and draws."""
        probes = stage_probes(network, self.probes)
        return self.score_at(probes, network, images, labels, n_classes=n_classes, seed=seed)

    def score_at(
        self,
        probes: Sequence[Probe],
        network: nn.Module,
        images: Tensor | Pixels,
        labels: Tensor,
        *,
        n_classes: int,
        seed: int,
    ) -> Score:
        """The score of any trained network, cut at `probes`."""
        started = time.perf_counter()
        weights = pair_weights(self.similarity, n_classes)
        generator = torch.Generator().manual_seed(seed)
        explained, background = split_sample(
            labels.cpu(), n_per_class=self.samples_per_class, n_background=self.background, generator=generator
        )
        if self.path == "random":
            paths = draw_paths(len(explained), self.draws, len(background), generator=generator)
        else:
            paths = midpoint_paths(len(explained), self.draws)
        samples, references = take(images, explained), images[background.to(images.device)]
        with evaluation_mode(network), torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                logits = torch.cat([network(batch) for batch in split_batches(samples, self._part_of(SAMPLES_AT_ONCE))])
            targets = labels[explained.to(labels.device)] if self.explain == "true" else logits.argmax(dim=1)
            found = {p.name: self._values(p, samples, references, targets, paths) for p in probes}
        values = {name: at_probe for name, (at_probe, _) in found.items()}
        gaps = torch.stack([(logits - base).gather(1, targets[:, None])[:, 0] for _, base in found.values()])
        if not all(bool(v.isfinite().all()) for v in values.values()):
            raise TrialFailure(Reason.NO_SCORE, f"{self.name}: SHAP values are not finite")
        groups = targets.cpu().numpy()
        by_layer = {
            name: cosine_distances(gram(class_means(v.double().cpu().numpy(), groups, n_classes)))
            for name, v in values.items()
        }
        return make_score(
            self.name,
            mean_distances(list(by_layer.values())),
            by_layer,
            weights=weights,
            n_samples=len(samples),
            started=started,
            completeness_error=completeness_error(list(values.values()), gaps),
        )

    def _values(
        self, probe: Probe, samples: Tensor | Pixels, references: Tensor, targets: Tensor, paths: Paths
    ) -> tuple[Tensor, Tensor]:
        """Channel values of the samples at a probe, (n, channels), and the logits they start from, (n_classes,)."""
        with torch.no_grad():
            background = probe.body(references)
            if self.path == "quadrature":
                background = background.mean(dim=0, keepdim=True)
            base = probe.tail(background).mean(dim=0)
        default = CPU_BATCH if samples.device.type == "cpu" else GPU_BATCH
        values, start = [], 0
        for batch in split_batches(samples, self._part_of(SAMPLES_AT_ONCE)):
            rows, start = slice(start, start + len(batch)), start + len(batch)
            with torch.no_grad():
                activations = probe.body(batch)
            values.append(
                expected_gradients(
                    probe.tail,
                    activations,
                    background,
                    targets[rows],
                    Paths(*(draws[rows] for draws in paths)),
                    batch_size=self._part_of(self.batch_size or default),
                    reduce=lambda of_draws: channel_sums(of_draws, probe.channel_dim),
                )
            )
        return torch.cat(values), base


def stage_probes(network: nn.Sequential, names: Sequence[str] | None = None) -> list[Probe]:
    """Probes after the named children of `network`; None: after each but the last two, the last stage and the head.

    Raises SettingError on a name that is not a child's, or is the last's, which has no tail.
    """
    stages = [name for name, _ in network.named_children()]
    chosen = stages[:-2] if names is None else list(names)
    for name in chosen:
        if name not in stages[:-1]:
            raise SettingError(
                "probes", f"names {name!r}, which is no stage to cut after. {did_you_mean(name, stages[:-1])}"
            )
    if not chosen:
        raise SettingError("probes", f"has no default for a network of {len(stages)} stages: at least 3 are needed")
    cuts = [(name, stages.index(name) + 1) for name in chosen]
    return [Probe(name, network[:cut], network[cut:]) for name, cut in cuts]


def expected_gradients(
    tail: Callable[[Tensor], Tensor],
    activations: Tensor,
    background: Tensor,
    targets: Tensor,
    paths: Paths,
    *,
    batch_size: int,
    reduce: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Tensor:
    """SHAP values of `activations`, (n, ...), for the logits `targets`, (n,), of `tail`: (n, ...).

    `background`, (n_background, ...), are activations too; `paths` says from which of them each draw comes. `reduce`
    maps the values of single draws, (batch_size, ...), to what is kept of them, e.g. `channel_sums`. At most
    batch_size gradients are held at a time. No gradient is computed for, or left on, a parameter that takes none.
    """
    n_samples, n_draws = paths.background.shape
    indices, positions = (draws.flatten().to(activations.device) for draws in paths)
    kept = []
    for rows in torch.split(torch.arange(n_samples * n_draws, device=activations.device), batch_size):
        sample = rows // n_draws
        start = background[indices[rows]]
        way = activations[sample] - start
        t = positions[rows].to(way.dtype).view(-1, *[1] * (way.dim() - 1))
        with torch.enable_grad():
            point = torch.addcmul(start, way, t).requires_grad_()
            logits = tail(point).gather(1, targets[sample, None])
            (gradient,) = torch.autograd.grad(logits.sum(), point)
        kept.append(reduce(way * gradient))
    values = torch.cat(kept)
    return values.view(n_samples, n_draws, *values.shape[1:]).mean(dim=1)


def channel_sums(values: Tensor, channel_dim: int = 1) -> Tensor:
    """Signed values summed over all dimensions but the first and the channels: (n, channels, ...) -> (n, channels)."""
    return values.movedim(channel_dim, 1).flatten(2).sum(dim=2) if values.dim() > 2 else values


def completeness_error(values: Sequence[Tensor], gaps: Tensor) -> float:
    """How far the values of samples, each (n, ...), are from summing to the logit gaps, on the mean of layers.

    `gaps`: (n,), or (n_layers, n) where each layer has its own. The error is mean |sum of values - gap| / mean |gap|:
    0 for exact values; infinite where all gaps are zero, but not the sums.
    """
    error = (torch.stack([v.flatten(1).sum(dim=1) for v in values]) - gaps).abs().mean()
    return float(error / gaps.abs().mean()) if error else 0.0
